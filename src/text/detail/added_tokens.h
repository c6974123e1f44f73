#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"
#include "text/text_range.h"

namespace pleiad::text::detail {

// One entry of "added_tokens": text that is one token wherever it stands.
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // not directly beside a letter, digit or underscore
  bool lstrip = false;       // swallows the blanks before it
  bool rstrip = false;       // swallows the blanks behind it
  bool normalized = false;   // sought in normalised text
};

// Reads "added_tokens" (null or absent: none).
Result<std::vector<AddedToken>> parse_added_tokens(const Json* config);

// A stretch of text: an added token, or ordinary text (no id).
struct Segment {
  std::optional<TokenId> id;
  TextRange range;
};

// Finds any of many tokens in text: leftmost, then longest. Immutable; any thread may search.
class AddedTokenSearch {
 public:
  explicit AddedTokenSearch(std::vector<AddedToken> tokens);

  [[nodiscard]] bool empty() const { return tokens_.empty(); }

  // `text` as segments in order. A special token of which a byte lies in `untrusted` (sorted,
  // disjoint) is left as ordinary text; a shorter token at the same place may still match.
  [[nodiscard]] std::vector<Segment>
  split(std::string_view text, const std::vector<TextRange>& untrusted) const;

 private:
  // The longest acceptable token at the start of text.substr(at), or null.
  [[nodiscard]] const AddedToken*
  match_at(std::string_view text, std::size_t at, const std::vector<TextRange>& untrusted) const;

  std::vector<AddedToken> tokens_;  // by content
  std::array<bool, 256> starts_{};  // bytes that some token begins with
};

// Whether bytes [range) meet any of `ranges`, which are sorted and disjoint.
bool touches(const std::vector<TextRange>& ranges, TextRange range);

// The parts of `ranges` inside `window`, relative to its start.
std::vector<TextRange> clip(const std::vector<TextRange>& ranges, TextRange window);

}  // namespace pleiad::text::detail
