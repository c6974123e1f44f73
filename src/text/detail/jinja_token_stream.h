#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/detail/jinja_ast.h"
#include "text/detail/jinja_lexer.h"

namespace pleiad::text::detail {

// The tokens of a template with one read position, and the names seen so far. What both halves of
// the parser share.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& ahead() const {
    return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_];
  }
  [[nodiscard]] int line() const { return current().line; }
  void next() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }

  [[nodiscard]] bool is(TokenKind kind) const { return current().kind == kind; }
  [[nodiscard]] bool is_operator(std::string_view text) const {
    return is(TokenKind::Operator) && current().text == text;
  }
  [[nodiscard]] bool is_name(std::string_view text) const {
    return is(TokenKind::Name) && current().text == text;
  }
  bool skip_operator(std::string_view text) {
    if (!is_operator(text)) return false;
    next();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    next();
    return true;
  }

  Result<void> expect_operator(std::string_view text) {
    if (skip_operator(text)) return {};
    return fail(fmt::format("expected '{}' before {}", text, described()));
  }
  // Between the items of a list: a comma, or the closing bracket, which is left where it is.
  Result<void> comma_or_end(std::string_view closing) {
    if (is_operator(closing) || skip_operator(",")) return {};
    return fail(fmt::format("expected ',' or '{}' before {}", closing, described()));
  }
  Result<void> expect(TokenKind kind, std::string_view what) {
    if (!is(kind)) return fail(fmt::format("expected {} before {}", what, described()));
    next();
    return {};
  }
  Result<std::string> expect_name() {
    if (!is(TokenKind::Name)) return fail(fmt::format("expected a name before {}", described()));
    std::string name = current().text;
    next();
    return name;
  }

  [[nodiscard]] std::string described() const {
    if (is(TokenKind::End)) return "the end of the template";
    if (is(TokenKind::BlockEnd)) return "the end of the block";
    if (is(TokenKind::VariableEnd)) return "the end of the output";
    return "'" + current().text + "'";
  }

  [[nodiscard]] Error fail(std::string_view what) const {
    return invalid_input("template line {}: {}", line(), what);
  }

  NameId intern(const std::string& name) {
    const auto [it, added] = ids_.try_emplace(name, static_cast<NameId>(names_.size()));
    if (added) names_.push_back(name);
    return it->second;
  }
  std::vector<std::string> take_names() { return std::move(names_); }

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::unordered_map<std::string, NameId> ids_;
  std::vector<std::string> names_;
};

}  // namespace pleiad::text::detail
