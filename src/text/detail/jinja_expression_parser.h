#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/detail/jinja_ast.h"
#include "text/detail/jinja_token_stream.h"

namespace pleiad::text::detail {

// The expression half of the parser: Jinja's precedence, from the conditional down to literals.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  Result<ExpressionPtr> expression(bool with_conditional = true);
  // One expression, or several with commas between them as a tuple.
  Result<ExpressionPtr> tuple(bool with_conditional = true);
  // Filters without a value, as in {% filter upper|trim %} and {% set x | trim %}; applied to a
  // null child. `inline_start`: the first filter stands without a bar.
  Result<ExpressionPtr> filter_chain(bool inline_start);

  // Whether varargs and kwargs were mentioned since the flags were last cleared.
  bool mentions_varargs = false;
  bool mentions_kwargs = false;

 private:
  using Node = std::unique_ptr<Expression>;

  // Counts nesting for as long as it lives.
  class Nesting {
   public:
    explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int& depth_;
  };

  [[nodiscard]] Node make(ExpressionKind kind) const;
  Result<void> adopt(Expression& parent, ExpressionPtr child) const;
  Result<ExpressionPtr> finish(Node node) const;
  Result<ExpressionPtr> binary(BinaryOperation operation, ExpressionPtr left, ExpressionPtr right);

  Result<ExpressionPtr> conditional();
  Result<ExpressionPtr> alternative();
  Result<ExpressionPtr> disjunction();
  Result<ExpressionPtr> conjunction();
  Result<ExpressionPtr> negation();
  Result<ExpressionPtr> comparison();
  std::optional<Comparison> comparison_here();
  Result<ExpressionPtr> sum();
  Result<ExpressionPtr> concatenation();
  Result<ExpressionPtr> product();
  Result<ExpressionPtr> power();
  Result<ExpressionPtr> unary(bool with_filter);
  Result<ExpressionPtr> primary();
  Result<ExpressionPtr> name();
  Result<ExpressionPtr> number();
  Result<ExpressionPtr> string();
  Result<ExpressionPtr> parenthesis();
  Result<ExpressionPtr> list();
  Result<ExpressionPtr> dict();
  Result<ExpressionPtr> postfix(ExpressionPtr node);
  Result<ExpressionPtr> attribute(ExpressionPtr object);
  Result<ExpressionPtr> subscript(ExpressionPtr object);
  Result<ExpressionPtr> call(ExpressionPtr callee);
  Result<ExpressionPtr> filters_and_tests(ExpressionPtr node);
  Result<ExpressionPtr> filter(ExpressionPtr value);
  Result<ExpressionPtr> test(ExpressionPtr value);
  Result<void> arguments(Expression& call);
  Result<ArgumentNode> argument();
  Result<std::string> dotted_name();
  [[nodiscard]] bool at_tuple_end() const;

  TokenStream& tokens_;
  int depth_ = 0;
};

}  // namespace pleiad::text::detail
