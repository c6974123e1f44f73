#include "text/detail/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace pleiad::text::detail {
namespace {

constexpr int kSequenceDepthMax = 8;
// The pattern of GPT-2's own encoder, which "use_regex" stands for.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A stretch of text and whether it counts as a separator.
struct Stretch {
  TextRange range;
  bool is_match = false;
};

bool flag(const Json& config, std::string_view key, bool otherwise) {
  const Json* value = config.find(key);
  return value == nullptr ? otherwise : value->as_bool().value_or(otherwise);
}

std::string_view type_of(const Json& config) {
  const Json* type = config.find("type");
  const std::string* name = type == nullptr ? nullptr : type->as_string();
  return name == nullptr ? std::string_view{} : std::string_view{*name};
}

Result<SplitBehavior> behavior_of(const Json& config) {
  const Json* behavior = config.find("behavior");
  const std::string* name = behavior == nullptr ? nullptr : behavior->as_string();
  if (name == nullptr) return corrupt("pre_tokenizer Split has no behavior");
  if (*name == "Isolated") return SplitBehavior::Isolated;
  if (*name == "Removed") return SplitBehavior::Removed;
  if (*name == "MergedWithPrevious") return SplitBehavior::MergedWithPrevious;
  if (*name == "MergedWithNext") return SplitBehavior::MergedWithNext;
  if (*name == "Contiguous") return SplitBehavior::Contiguous;
  return unsupported("pre_tokenizer Split behavior {}", *name);
}

// Matches and gaps in order. An empty match is kept: it cuts the gap in two.
Result<void> find_stretches(
    const SplitStep& step,
    std::string_view text,
    RegexScratch& scratch,
    std::vector<Stretch>& stretches
) {
  std::size_t gap_begin = 0;
  std::size_t from = 0;
  std::optional<std::size_t> last_end;
  while (from <= text.size()) {
    PLEIAD_TRY(match, step.pattern.find(text, from, scratch));
    if (!match) break;
    const bool empty = match->begin == match->end;
    if (empty && last_end == match->end) {
      // Directly behind a match an empty one says nothing: look further.
      if (from >= text.size()) break;
      from += decode_utf8(text.substr(from))->bytes;
      continue;
    }
    if (gap_begin < match->begin) stretches.push_back({{gap_begin, match->begin}, step.invert});
    stretches.push_back({*match, !step.invert});
    gap_begin = match->end;
    from = match->end;
    last_end = match->end;
  }
  if (gap_begin < text.size()) stretches.push_back({{gap_begin, text.size()}, step.invert});
  return {};
}

// Joins neighbours where the behaviour asks for it. `stretches` are adjacent.
std::vector<TextRange> join(std::vector<Stretch> stretches, SplitBehavior behavior) {
  const bool backwards = behavior == SplitBehavior::MergedWithNext;
  if (backwards) std::reverse(stretches.begin(), stretches.end());
  std::vector<TextRange> pieces;
  bool previous_match = false;
  for (const Stretch& stretch : stretches) {
    bool joins = false;
    switch (behavior) {
      case SplitBehavior::Isolated:
        break;
      case SplitBehavior::Removed:
        if (stretch.is_match) continue;
        break;
      case SplitBehavior::Contiguous:
        joins = stretch.is_match == previous_match;
        break;
      case SplitBehavior::MergedWithPrevious:
      case SplitBehavior::MergedWithNext:
        joins = stretch.is_match && !previous_match;
        break;
    }
    previous_match = stretch.is_match;
    if (!joins || pieces.empty()) {
      pieces.push_back(stretch.range);
    } else if (backwards) {
      pieces.back().begin = stretch.range.begin;
    } else {
      pieces.back().end = stretch.range.end;
    }
  }
  if (backwards) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Result<void> cut(
    const SplitStep& step,
    std::string_view text,
    RegexScratch& scratch,
    std::vector<std::string_view>& pieces
) {
  std::vector<Stretch> stretches;
  PLEIAD_TRY(find_stretches(step, text, scratch, stretches));
  const auto keep = [&](TextRange range) {
    if (range.begin < range.end) {
      pieces.push_back(text.substr(range.begin, range.end - range.begin));
    }
  };
  if (step.behavior == SplitBehavior::Isolated) {
    for (const Stretch& stretch : stretches) {
      keep(stretch.range);
    }
    return {};
  }
  for (const TextRange& range : join(std::move(stretches), step.behavior)) {
    keep(range);
  }
  return {};
}

// Cuts every piece by one step; `smaller` is written anew.
Result<void> cut_all(
    const SplitStep& step,
    const std::vector<std::string_view>& pieces,
    RegexScratch& scratch,
    std::vector<std::string_view>& smaller
) {
  smaller.clear();
  for (const std::string_view piece : pieces) {
    PLEIAD_TRY(cut(step, piece, scratch, smaller));
  }
  return {};
}

Result<void> run_steps(
    const std::vector<SplitStep>& steps,
    std::string_view text,
    RegexScratch& scratch,
    std::vector<std::string_view>& words
) {
  if (text.empty()) return {};
  if (steps.empty()) {
    words.push_back(text);
    return {};
  }
  if (steps.size() == 1) return cut(steps[0], text, scratch, words);
  std::vector<std::string_view> pieces{text};
  std::vector<std::string_view> smaller;
  for (const SplitStep& step : steps) {
    PLEIAD_TRY(cut_all(step, pieces, scratch, smaller));
    pieces.swap(smaller);
  }
  words.insert(words.end(), pieces.begin(), pieces.end());
  return {};
}

}  // namespace

Result<PreTokenizer> PreTokenizer::build(const Json& config) {
  PreTokenizer pre_tokenizer;
  if (config.is_null()) return pre_tokenizer;
  PLEIAD_TRY(pre_tokenizer.add(config, 0));
  if (!pre_tokenizer.byte_level_) {
    return unsupported(
        "pre_tokenizer without a ByteLevel step: only byte-level models are supported"
    );
  }
  return pre_tokenizer;
}

Result<void> PreTokenizer::add(const Json& config, int depth) {
  const std::string_view type = type_of(config);
  if (depth > kSequenceDepthMax) return unsupported("pre_tokenizer Sequence nested too deep");
  if (byte_level_) return unsupported("pre_tokenizer {} after ByteLevel", type);
  if (type == "Split") return add_split(config);
  if (type == "ByteLevel") return add_byte_level(config);
  if (type == "Digits") return add_digits(config);
  if (type != "Sequence") return unsupported("pre_tokenizer {}", type.empty() ? "?" : type);
  const Json* members = config.find("pretokenizers");
  const JsonArray* list = members == nullptr ? nullptr : members->as_array();
  if (list == nullptr) return corrupt("pre_tokenizer Sequence has no pretokenizers");
  for (const Json& member : *list) {
    PLEIAD_TRY(add(member, depth + 1));
  }
  return {};
}

Result<void> PreTokenizer::add_split(const Json& config) {
  const Json* pattern = config.find("pattern");
  const Json* regex = pattern == nullptr ? nullptr : pattern->find("Regex");
  const Json* literal = pattern == nullptr ? nullptr : pattern->find("String");
  PLEIAD_TRY(behavior, behavior_of(config));
  if (regex != nullptr && regex->as_string() != nullptr) {
    PLEIAD_TRY(compiled, Regex::compile(*regex->as_string()));
    steps_.push_back({std::move(compiled), behavior, flag(config, "invert", false)});
    return {};
  }
  if (literal != nullptr && literal->as_string() != nullptr) {
    PLEIAD_TRY(compiled, Regex::compile_literal(*literal->as_string()));
    steps_.push_back({std::move(compiled), behavior, flag(config, "invert", false)});
    return {};
  }
  return corrupt("pre_tokenizer Split needs a pattern with Regex or String");
}

Result<void> PreTokenizer::add_byte_level(const Json& config) {
  byte_level_ = true;
  adds_prefix_space_ = flag(config, "add_prefix_space", true);
  if (!flag(config, "use_regex", true)) return {};
  PLEIAD_TRY(compiled, Regex::compile(kGpt2Pattern));
  // The prefix space belongs to the first word, so it has to be there before the cut.
  auto& steps = adds_prefix_space_ ? after_prefix_ : steps_;
  steps.push_back({std::move(compiled), SplitBehavior::Isolated, false});
  return {};
}

Result<void> PreTokenizer::add_digits(const Json& config) {
  PLEIAD_TRY(compiled, Regex::compile("\\p{N}"));
  const bool individual = flag(config, "individual_digits", false);
  steps_.push_back(
      {std::move(compiled), individual ? SplitBehavior::Isolated : SplitBehavior::Contiguous, false}
  );
  return {};
}

Result<void> PreTokenizer::split(
    std::string_view text,
    RegexScratch& scratch,
    std::vector<std::string_view>& words
) const {
  return run_steps(steps_, text, scratch, words);
}

Result<void> PreTokenizer::split_prefixed(
    std::string_view piece,
    RegexScratch& scratch,
    std::vector<std::string_view>& words
) const {
  return run_steps(after_prefix_, piece, scratch, words);
}

}  // namespace pleiad::text::detail
