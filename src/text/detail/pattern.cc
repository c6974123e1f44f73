#include "text/detail/pattern.h"

#include <vector>

namespace pleiad::text::detail {
namespace {

constexpr int kClassDepthMax = 16;

// Rewrites one pattern from left to right.
class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> run() {
    std::string out;
    while (at_ < pattern_.size()) {
      if (pattern_[at_] == '\\') {
        PLEIAD_TRY(escape, take_escape(false));
        out += escape;
      } else if (pattern_[at_] == '[') {
        PLEIAD_TRY(one, take_class(0));
        out += one;
      } else {
        if (is_dotall_group()) return unsupported("inline flag m in the pattern {}", pattern_);
        out += pattern_[at_++];
      }
    }
    return out;
  }

 private:
  // One operand of &&: plain members as PCRE2 writes them, and nested classes.
  struct Operand {
    std::string members;
    std::vector<std::string> nested;
  };

  // (?m) means "dot matches newline" in Ruby and something else in PCRE2.
  [[nodiscard]] bool is_dotall_group() const {
    if (pattern_.substr(at_, 2) != "(?") return false;
    const std::size_t end = pattern_.find_first_not_of("imxs-", at_ + 2);
    if (end == std::string_view::npos || (pattern_[end] != ':' && pattern_[end] != ')')) {
      return false;
    }
    return pattern_.substr(at_, end - at_).find('m') != std::string_view::npos;
  }

  Result<std::string> take_escape(bool in_class) {
    if (at_ + 1 >= pattern_.size()) return corrupt("pattern ends in a backslash: {}", pattern_);
    const char kind = pattern_[at_ + 1];
    at_ += 2;
    if (kind == 'h' && in_class) return std::string("0-9A-Fa-f");
    if (kind == 'h') return std::string("[0-9A-Fa-f]");
    if (kind == 'H' && !in_class) return std::string("[^0-9A-Fa-f]");
    if (kind == 'H') return unsupported("\\H inside a class in the pattern {}", pattern_);
    if (kind == 'u') {
      const std::string digits(pattern_.substr(at_, 4));
      if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos ||
          digits.size() != 4) {
        return corrupt("\\u without four hex digits in the pattern {}", pattern_);
      }
      at_ += 4;
      return "\\x{" + digits + "}";
    }
    if (kind == 'p' || kind == 'P') return take_property(kind);
    return std::string{'\\', kind};
  }

  // Names of up to two letters are general categories; longer ones are scripts, or properties that
  // both libraries know.
  Result<std::string> take_property(char kind) {
    std::string out{'\\', kind};
    if (at_ >= pattern_.size() || pattern_[at_] != '{') return out;
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) return corrupt("unclosed \\p in the pattern {}", pattern_);
    std::string_view name = pattern_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    out += '{';
    if (!name.empty() && name.front() == '^') {
      out += '^';
      name.remove_prefix(1);
    }
    const bool is_script = name.size() > 3 || name == "Han" || name == "Lao" || name == "Yi";
    const bool is_property = name == "Alphabetic" || name == "White_Space" || name == "Emoji" ||
                             name == "Uppercase" || name == "Lowercase" || name == "Any";
    if (is_script && !is_property && name.find('=') == std::string_view::npos) out += "sc:";
    out.append(name) += '}';
    return out;
  }

  Result<std::string> take_class(int depth) {
    if (depth > kClassDepthMax) return unsupported("classes nested too deep: {}", pattern_);
    ++at_;
    const bool negated = at_ < pattern_.size() && pattern_[at_] == '^';
    if (negated) ++at_;
    std::vector<Operand> operands(1);
    bool first = true;
    while (at_ < pattern_.size() && (pattern_[at_] != ']' || first)) {
      first = false;
      Operand& operand = operands.back();
      if (pattern_.substr(at_, 2) == "&&") {
        at_ += 2;
        operands.emplace_back();
      } else if (pattern_.substr(at_, 2) == "[:") {
        const std::size_t end = pattern_.find(":]", at_);
        if (end == std::string_view::npos) return corrupt("unclosed [: in {}", pattern_);
        operand.members.append(pattern_.substr(at_, end + 2 - at_));
        at_ = end + 2;
      } else if (pattern_[at_] == '[') {
        PLEIAD_TRY(nested, take_class(depth + 1));
        operand.nested.push_back(nested);
      } else if (pattern_[at_] == '\\') {
        PLEIAD_TRY(escape, take_escape(true));
        operand.members += escape;
      } else {
        operand.members += pattern_[at_++];
      }
    }
    if (at_ >= pattern_.size()) return corrupt("unclosed class in the pattern {}", pattern_);
    ++at_;
    return assemble(operands, negated);
  }

  static std::string union_of(const Operand& operand) {
    if (operand.nested.empty()) return "[" + operand.members + "]";
    if (operand.members.empty() && operand.nested.size() == 1) return operand.nested[0];
    std::string out = "(?:";
    if (!operand.members.empty()) out += "[" + operand.members + "]";
    for (const std::string& nested : operand.nested) {
      if (out.size() > 3) out += '|';
      out += nested;
    }
    return out + ")";
  }

  // The operands hold one after the other as look-aheads on the same character; a negated class is
  // any character that the rest does not match.
  static std::string assemble(const std::vector<Operand>& operands, bool negated) {
    const bool simple = operands.size() == 1 && operands[0].nested.empty();
    if (simple) return (negated ? "[^" : "[") + operands[0].members + "]";
    std::string all;
    for (std::size_t i = 1; i < operands.size(); ++i) {
      all += "(?=" + union_of(operands[i]) + ")";
    }
    all += union_of(operands[0]);
    return negated ? "(?:(?!" + all + ")(?s:.))" : "(?:" + all + ")";
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
};

}  // namespace

Result<std::string> pcre_of_onig(std::string_view pattern) {
  // Tried at every start, this walks the rest of a run of blanks each time; starting only where a
  // run starts finds the same matches in linear time.
  if (pattern == "\\s+$") return std::string("(?<!\\s)\\s+$");
  return Rewriter(pattern).run();
}

}  // namespace pleiad::text::detail
