#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/text_range.h"

namespace pleiad::text::detail {

// What one thread needs to run any Regex: match data and a JIT stack. Not thread-safe; cheap enough
// to make one per call.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

// A compiled PCRE2 pattern (UTF, Unicode properties, multiline, JIT where there is one). Immutable;
// any thread may match with its own scratch.
class Regex {
 public:
  // `pattern` is in Oniguruma's syntax, see pattern.h. Fails with Unsupported and PCRE2's reason.
  static Result<Regex> compile(std::string_view pattern);
  // A pattern that matches just `literal`.
  static Result<Regex> compile_literal(std::string_view literal);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // The first match that starts at or after byte `from` of `text`. REQUIRES: `text` is well-formed
  // UTF-8 and `from` a boundary in it. Fails with InvalidInput when the pattern needs more work
  // than a match is allowed.
  Result<std::optional<TextRange>>
  find(std::string_view text, std::size_t from, RegexScratch& scratch) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  static Result<Regex> build(std::string_view pattern, std::uint32_t options);
  std::unique_ptr<Code> code_;
};

}  // namespace pleiad::text::detail
