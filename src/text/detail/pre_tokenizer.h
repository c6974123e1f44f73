#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/detail/regex.h"

namespace pleiad::text::detail {

// What becomes of the matches of a Split step, and of the text between them.
enum class SplitBehavior { Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous };

// One cut of text into smaller pieces.
struct SplitStep {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::Isolated;
  bool invert = false;
};

// The pre_tokenizer of a byte-level tokenizer.json: cuts text into the words that the model merges
// within. Immutable; any thread may split.
class PreTokenizer {
 public:
  // From the "pre_tokenizer" member (null: all text is one word). Unsupported names the type or
  // behaviour this build cannot do.
  static Result<PreTokenizer> build(const Json& config);

  // Appends the words of `text`, views into it. REQUIRES: well-formed UTF-8.
  Result<void>
  split(std::string_view text, RegexScratch& scratch, std::vector<std::string_view>& words) const;

  // Whether every piece that reaches the byte-level step and does not start with a space gets one.
  [[nodiscard]] bool adds_prefix_space() const { return adds_prefix_space_; }

  // Cuts what came out of split() again after the prefix space was added: GPT-2's own pattern.
  Result<void> split_prefixed(
      std::string_view piece,
      RegexScratch& scratch,
      std::vector<std::string_view>& words
  ) const;

 private:
  PreTokenizer() = default;
  Result<void> add(const Json& config, int depth);
  Result<void> add_split(const Json& config);
  Result<void> add_byte_level(const Json& config);
  Result<void> add_digits(const Json& config);

  std::vector<SplitStep> steps_;
  std::vector<SplitStep> after_prefix_;  // at most one: GPT-2's pattern
  bool adds_prefix_space_ = false;
  bool byte_level_ = false;
};

}  // namespace pleiad::text::detail
