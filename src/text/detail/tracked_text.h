#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/text_range.h"

namespace pleiad::text::detail {

// Text that knows which of its bytes came from the request. Every operation on text goes through
// append(), so the marks follow the bytes.
class TrackedText {
 public:
  TrackedText() = default;
  explicit TrackedText(std::string_view bytes, bool untrusted = false) { append(bytes, untrusted); }

  [[nodiscard]] const std::string& bytes() const { return bytes_; }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  // Sorted, disjoint, not adjacent.
  [[nodiscard]] const std::vector<TextRange>& untrusted() const { return untrusted_; }
  [[nodiscard]] bool any_untrusted() const { return !untrusted_.empty(); }

  void append(std::string_view bytes, bool untrusted);
  void append(const TrackedText& other) { append(other, {0, other.size()}); }
  // REQUIRES: `part` lies inside `other`.
  void append(const TrackedText& other, TextRange part);
  [[nodiscard]] TrackedText slice(TextRange part) const;

  // The stretches of equal trust in order, as (bytes, untrusted).
  struct Run {
    std::string_view bytes;
    bool untrusted = false;
  };
  [[nodiscard]] std::vector<Run> runs() const;

  // All of it as one mark: used where the origin of single bytes is lost.
  void mark_all_untrusted();

 private:
  void mark(TextRange range);

  std::string bytes_;
  std::vector<TextRange> untrusted_;
};

}  // namespace pleiad::text::detail
