#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/text_range.h"

namespace pleiad::text::detail {

// `text` in Unicode normalisation form C. Time n log n, whatever the marks. REQUIRES: well-formed
// UTF-8.
std::string to_nfc(std::string_view text);

// Text, and which of its bytes are untrusted.
struct MarkedText {
  std::string text;
  std::vector<TextRange> untrusted;  // sorted, disjoint
};

// The normalizer of a tokenizer.json: nothing or NFC. Immutable; any thread may use it.
class Normalizer {
 public:
  // From the "normalizer" member. Unsupported names any other type.
  static Result<Normalizer> build(const Json& config);

  [[nodiscard]] bool changes_nothing() const { return !nfc_; }

  // Normalises `text`; its untrusted ranges grow to the nearest places that no composition crosses.
  [[nodiscard]] MarkedText apply(std::string_view text, const std::vector<TextRange>& untrusted)
      const;

 private:
  bool nfc_ = false;
};

}  // namespace pleiad::text::detail
