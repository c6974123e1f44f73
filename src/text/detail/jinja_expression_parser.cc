#include "text/detail/jinja_expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "text/detail/jinja_filters.h"
#include "text/detail/jinja_tests.h"

namespace pleiad::text::detail {
namespace {

// Of recursion while parsing, and of the tree: the evaluator recurses as deep.
constexpr int kNestingMax = 100;
constexpr int kTreeDepthMax = 200;

std::optional<Comparison> comparison_of(const Token& token) {
  if (token.kind == TokenKind::Name && token.text == "in") return Comparison::In;
  if (token.kind != TokenKind::Operator) return std::nullopt;
  if (token.text == "==") return Comparison::Equal;
  if (token.text == "!=") return Comparison::NotEqual;
  if (token.text == "<") return Comparison::Less;
  if (token.text == "<=") return Comparison::LessEqual;
  if (token.text == ">") return Comparison::Greater;
  if (token.text == ">=") return Comparison::GreaterEqual;
  return std::nullopt;
}

}  // namespace

ExpressionParser::Node ExpressionParser::make(ExpressionKind kind) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = tokens_.line();
  return node;
}

Result<void> ExpressionParser::adopt(Expression& parent, ExpressionPtr child) const {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kTreeDepthMax) return tokens_.fail("expression too long or too deeply nested");
  parent.children.push_back(std::move(child));
  return {};
}

Result<ExpressionPtr> ExpressionParser::finish(Node node) const {
  return ExpressionPtr(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::expression(bool with_conditional) {
  const Nesting nesting(depth_);
  if (depth_ > kNestingMax) return tokens_.fail("expression too deeply nested");
  return with_conditional ? conditional() : disjunction();
}

bool ExpressionParser::at_tuple_end() const {
  return tokens_.is(TokenKind::BlockEnd) || tokens_.is(TokenKind::VariableEnd) ||
         tokens_.is(TokenKind::End) || tokens_.is_operator(")") || tokens_.is_name("recursive");
}

Result<ExpressionPtr> ExpressionParser::tuple(bool with_conditional) {
  if (at_tuple_end()) {
    return tokens_.fail(fmt::format("expected an expression before {}", tokens_.described()));
  }
  PLEIAD_TRY(first, expression(with_conditional));
  if (!tokens_.is_operator(",")) return std::move(first);
  Node node = make(ExpressionKind::Tuple);
  PLEIAD_TRY(adopt(*node, std::move(first)));
  while (tokens_.skip_operator(",") && !at_tuple_end()) {
    PLEIAD_TRY(item, expression(with_conditional));
    PLEIAD_TRY(adopt(*node, std::move(item)));
  }
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::conditional() {
  const Nesting nesting(depth_);
  if (depth_ > kNestingMax) return tokens_.fail("expression too deeply nested");
  PLEIAD_TRY(result, disjunction());
  while (tokens_.is_name("if")) {
    Node node = make(ExpressionKind::Conditional);
    tokens_.next();
    PLEIAD_TRY(condition, disjunction());
    PLEIAD_TRY(adopt(*node, std::move(condition)));
    PLEIAD_TRY(adopt(*node, std::move(result)));
    PLEIAD_TRY(otherwise, alternative());
    PLEIAD_TRY(adopt(*node, std::move(otherwise)));
    result = std::move(node);
  }
  return std::move(result);
}

// What stands behind else, or null.
Result<ExpressionPtr> ExpressionParser::alternative() {
  if (!tokens_.skip_name("else")) return ExpressionPtr();
  return conditional();
}

Result<ExpressionPtr> ExpressionParser::disjunction() {
  PLEIAD_TRY(left, conjunction());
  while (tokens_.is_name("or")) {
    Node node = make(ExpressionKind::Or);
    tokens_.next();
    PLEIAD_TRY(right, conjunction());
    PLEIAD_TRY(adopt(*node, std::move(left)));
    PLEIAD_TRY(adopt(*node, std::move(right)));
    left = std::move(node);
  }
  return std::move(left);
}

Result<ExpressionPtr> ExpressionParser::conjunction() {
  PLEIAD_TRY(left, negation());
  while (tokens_.is_name("and")) {
    Node node = make(ExpressionKind::And);
    tokens_.next();
    PLEIAD_TRY(right, negation());
    PLEIAD_TRY(adopt(*node, std::move(left)));
    PLEIAD_TRY(adopt(*node, std::move(right)));
    left = std::move(node);
  }
  return std::move(left);
}

Result<ExpressionPtr> ExpressionParser::negation() {
  if (!tokens_.is_name("not")) return comparison();
  const Nesting nesting(depth_);
  if (depth_ > kNestingMax) return tokens_.fail("expression too deeply nested");
  Node node = make(ExpressionKind::Not);
  tokens_.next();
  PLEIAD_TRY(operand, negation());
  PLEIAD_TRY(adopt(*node, std::move(operand)));
  return finish(std::move(node));
}

// The comparison at the current token, which is then the last of its tokens.
std::optional<Comparison> ExpressionParser::comparison_here() {
  const Token& ahead = tokens_.ahead();
  if (tokens_.is_name("not") && ahead.kind == TokenKind::Name && ahead.text == "in") {
    tokens_.next();
    return Comparison::NotIn;
  }
  return comparison_of(tokens_.current());
}

Result<ExpressionPtr> ExpressionParser::comparison() {
  PLEIAD_TRY(first, sum());
  auto operation = comparison_here();
  if (!operation) return std::move(first);
  Node node = make(ExpressionKind::Compare);
  PLEIAD_TRY(adopt(*node, std::move(first)));
  while (operation) {
    tokens_.next();
    PLEIAD_TRY(operand, sum());
    node->comparisons.push_back(*operation);
    PLEIAD_TRY(adopt(*node, std::move(operand)));
    operation = comparison_here();
  }
  return finish(std::move(node));
}

Result<ExpressionPtr>
ExpressionParser::binary(BinaryOperation operation, ExpressionPtr left, ExpressionPtr right) {
  Node node = make(ExpressionKind::Binary);
  node->operation = operation;
  PLEIAD_TRY(adopt(*node, std::move(left)));
  PLEIAD_TRY(adopt(*node, std::move(right)));
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::sum() {
  PLEIAD_TRY(left, concatenation());
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    const bool adds = tokens_.is_operator("+");
    tokens_.next();
    PLEIAD_TRY(right, concatenation());
    PLEIAD_TRY(
        joined,
        binary(
            adds ? BinaryOperation::Add : BinaryOperation::Subtract,
            std::move(left),
            std::move(right)
        )
    );
    left = std::move(joined);
  }
  return std::move(left);
}

Result<ExpressionPtr> ExpressionParser::concatenation() {
  PLEIAD_TRY(first, product());
  if (!tokens_.is_operator("~")) return std::move(first);
  Node node = make(ExpressionKind::Concat);
  PLEIAD_TRY(adopt(*node, std::move(first)));
  while (tokens_.skip_operator("~")) {
    PLEIAD_TRY(operand, product());
    PLEIAD_TRY(adopt(*node, std::move(operand)));
  }
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::product() {
  static constexpr std::array<std::pair<std::string_view, BinaryOperation>, 4> kOperations = {{
      {"*", BinaryOperation::Multiply},
      {"/", BinaryOperation::Divide},
      {"//", BinaryOperation::FloorDivide},
      {"%", BinaryOperation::Modulo},
  }};
  PLEIAD_TRY(left, power());
  while (tokens_.is(TokenKind::Operator)) {
    const auto* found =
        std::find_if(kOperations.begin(), kOperations.end(), [&](const auto& entry) {
          return tokens_.is_operator(entry.first);
        });
    if (found == kOperations.end()) break;
    tokens_.next();
    PLEIAD_TRY(right, power());
    PLEIAD_TRY(joined, binary(found->second, std::move(left), std::move(right)));
    left = std::move(joined);
  }
  return std::move(left);
}

Result<ExpressionPtr> ExpressionParser::power() {
  PLEIAD_TRY(left, unary(true));
  while (tokens_.skip_operator("**")) {
    PLEIAD_TRY(right, unary(true));
    PLEIAD_TRY(joined, binary(BinaryOperation::Power, std::move(left), std::move(right)));
    left = std::move(joined);
  }
  return std::move(left);
}

Result<ExpressionPtr> ExpressionParser::unary(bool with_filter) {
  const Nesting nesting(depth_);
  if (depth_ > kNestingMax) return tokens_.fail("expression too deeply nested");
  ExpressionPtr result;
  if (tokens_.is_operator("-") || tokens_.is_operator("+")) {
    Node node = make(tokens_.is_operator("-") ? ExpressionKind::Negate : ExpressionKind::Plus);
    tokens_.next();
    PLEIAD_TRY(operand, unary(false));
    PLEIAD_TRY(adopt(*node, std::move(operand)));
    result = std::move(node);
  } else {
    PLEIAD_TRY(parsed, primary());
    result = std::move(parsed);
  }
  PLEIAD_TRY(extended, postfix(std::move(result)));
  if (!with_filter) return std::move(extended);
  return filters_and_tests(std::move(extended));
}

Result<ExpressionPtr> ExpressionParser::primary() {
  switch (tokens_.current().kind) {
    case TokenKind::Name:
      return name();
    case TokenKind::Integer:
    case TokenKind::Float:
      return number();
    case TokenKind::String:
      return string();
    case TokenKind::Operator:
      if (tokens_.is_operator("(")) return parenthesis();
      if (tokens_.is_operator("[")) return list();
      if (tokens_.is_operator("{")) return dict();
      break;
    case TokenKind::Data:
    case TokenKind::BlockBegin:
    case TokenKind::BlockEnd:
    case TokenKind::VariableBegin:
    case TokenKind::VariableEnd:
    case TokenKind::End:
      break;
  }
  return tokens_.fail(fmt::format("expected an expression before {}", tokens_.described()));
}

Result<ExpressionPtr> ExpressionParser::name() {
  const std::string& text = tokens_.current().text;
  Node node = make(ExpressionKind::Constant);
  if (text == "true" || text == "True") {
    node->constant = Value(true);
  } else if (text == "false" || text == "False") {
    node->constant = Value(false);
  } else if (text == "none" || text == "None") {
    node->constant = Value(None{});
  } else {
    mentions_varargs = mentions_varargs || text == "varargs";
    mentions_kwargs = mentions_kwargs || text == "kwargs";
    node->kind = ExpressionKind::Name;
    node->name = tokens_.intern(text);
  }
  tokens_.next();
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::number() {
  const std::string& text = tokens_.current().text;
  Node node = make(ExpressionKind::Constant);
  const char* end = text.data() + text.size();
  std::int64_t whole = 0;
  double real = 0;
  if (tokens_.is(TokenKind::Integer)) {
    const auto read = std::from_chars(text.data(), end, whole);
    if (read.ec != std::errc{}) return tokens_.fail("integer does not fit 64 bits");
    node->constant = Value(whole);
  } else {
    const auto read = std::from_chars(text.data(), end, real);
    if (read.ec != std::errc{}) return tokens_.fail("number out of range");
    node->constant = Value(real);
  }
  tokens_.next();
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::string() {
  Node node = make(ExpressionKind::Constant);
  std::string text;
  while (tokens_.is(TokenKind::String)) {
    text += tokens_.current().text;
    tokens_.next();
  }
  node->text = std::make_unique<const TrackedText>(text);
  node->constant = Value(node->text.get());
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::parenthesis() {
  Node empty = make(ExpressionKind::Tuple);
  tokens_.next();
  if (tokens_.skip_operator(")")) return finish(std::move(empty));
  PLEIAD_TRY(inner, tuple());
  PLEIAD_TRY(tokens_.expect_operator(")"));
  return std::move(inner);
}

Result<ExpressionPtr> ExpressionParser::list() {
  Node node = make(ExpressionKind::List);
  tokens_.next();
  while (!tokens_.skip_operator("]")) {
    PLEIAD_TRY(item, expression());
    PLEIAD_TRY(adopt(*node, std::move(item)));
    PLEIAD_TRY(tokens_.comma_or_end("]"));
  }
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::dict() {
  Node node = make(ExpressionKind::Dict);
  tokens_.next();
  while (!tokens_.skip_operator("}")) {
    PLEIAD_TRY(key, expression());
    PLEIAD_TRY(tokens_.expect_operator(":"));
    PLEIAD_TRY(value, expression());
    PLEIAD_TRY(adopt(*node, std::move(key)));
    PLEIAD_TRY(adopt(*node, std::move(value)));
    PLEIAD_TRY(tokens_.comma_or_end("}"));
  }
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::postfix(ExpressionPtr node) {
  while (true) {
    if (tokens_.is_operator(".")) {
      PLEIAD_TRY(extended, attribute(std::move(node)));
      node = std::move(extended);
    } else if (tokens_.is_operator("[")) {
      PLEIAD_TRY(extended, subscript(std::move(node)));
      node = std::move(extended);
    } else if (tokens_.is_operator("(")) {
      PLEIAD_TRY(extended, call(std::move(node)));
      node = std::move(extended);
    } else {
      return node;
    }
  }
}

Result<ExpressionPtr> ExpressionParser::attribute(ExpressionPtr object) {
  Node node = make(ExpressionKind::Attribute);
  tokens_.next();
  PLEIAD_TRY(adopt(*node, std::move(object)));
  if (tokens_.is(TokenKind::Integer)) {
    node->kind = ExpressionKind::Item;
    PLEIAD_TRY(index, number());
    PLEIAD_TRY(adopt(*node, std::move(index)));
    return finish(std::move(node));
  }
  PLEIAD_TRY(attribute_name, tokens_.expect_name());
  node->text = std::make_unique<const TrackedText>(attribute_name);
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::subscript(ExpressionPtr object) {
  Node node = make(ExpressionKind::Item);
  tokens_.next();
  PLEIAD_TRY(adopt(*node, std::move(object)));
  // begin:end:step, each of which may be missing; without a colon an index.
  std::array<ExpressionPtr, 3> parts;
  std::size_t colons = 0;
  while (!tokens_.is_operator("]")) {
    if (tokens_.skip_operator(":")) {
      if (++colons > 2) return tokens_.fail("slice with more than three parts");
      continue;
    }
    if (parts[colons]) return tokens_.fail("expected ']'");
    PLEIAD_TRY(part, expression());
    parts[colons] = std::move(part);
  }
  tokens_.next();
  if (colons == 0 && !parts[0]) return tokens_.fail("subscript without an index");
  if (colons > 0) node->kind = ExpressionKind::Slice;
  for (std::size_t i = 0; i < (colons > 0 ? 3U : 1U); ++i) {
    PLEIAD_TRY(adopt(*node, std::move(parts[i])));
  }
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::call(ExpressionPtr callee) {
  Node node = make(ExpressionKind::Call);
  PLEIAD_TRY(adopt(*node, std::move(callee)));
  PLEIAD_TRY(arguments(*node));
  return finish(std::move(node));
}

Result<void> ExpressionParser::arguments(Expression& call) {
  PLEIAD_TRY(tokens_.expect_operator("("));
  while (!tokens_.skip_operator(")")) {
    PLEIAD_TRY(parsed, argument());
    const bool late = parsed.kind == ArgumentKind::Positional && !call.arguments.empty() &&
                      call.arguments.back().kind != ArgumentKind::Positional;
    if (late) return tokens_.fail("positional argument behind keywords");
    call.depth = std::max(call.depth, parsed.value->depth + 1);
    call.arguments.push_back(std::move(parsed));
    PLEIAD_TRY(tokens_.comma_or_end(")"));
  }
  return {};
}

Result<ArgumentNode> ExpressionParser::argument() {
  ArgumentNode node;
  const Token& ahead = tokens_.ahead();
  if (tokens_.skip_operator("**")) {
    node.kind = ArgumentKind::SpreadKeywords;
  } else if (tokens_.skip_operator("*")) {
    node.kind = ArgumentKind::Spread;
  } else if (tokens_.is(TokenKind::Name) && ahead.kind == TokenKind::Operator && ahead.text == "=") {
    node.kind = ArgumentKind::Keyword;
    node.keyword = tokens_.current().text;
    tokens_.next();
    tokens_.next();
  }
  PLEIAD_TRY(value, expression());
  node.value = std::move(value);
  return node;
}

Result<ExpressionPtr> ExpressionParser::filters_and_tests(ExpressionPtr node) {
  while (true) {
    if (tokens_.skip_operator("|")) {
      PLEIAD_TRY(filtered, filter(std::move(node)));
      node = std::move(filtered);
    } else if (tokens_.is_name("is")) {
      PLEIAD_TRY(tested, test(std::move(node)));
      node = std::move(tested);
    } else if (tokens_.is_operator("(")) {
      PLEIAD_TRY(called, call(std::move(node)));
      node = std::move(called);
    } else {
      return node;
    }
  }
}

Result<std::string> ExpressionParser::dotted_name() {
  PLEIAD_TRY(whole, tokens_.expect_name());
  while (tokens_.skip_operator(".")) {
    PLEIAD_TRY(part, tokens_.expect_name());
    whole += "." + part;
  }
  return std::move(whole);
}

Result<ExpressionPtr> ExpressionParser::filter(ExpressionPtr value) {
  Node node = make(ExpressionKind::Filter);
  PLEIAD_TRY(adopt(*node, std::move(value)));
  PLEIAD_TRY(filter_name, dotted_name());
  node->filter = find_filter(filter_name);
  if (node->filter == nullptr) {
    return unsupported("template line {}: filter '{}'", node->line, filter_name);
  }
  if (tokens_.is_operator("(")) PLEIAD_TRY(arguments(*node));
  return finish(std::move(node));
}

Result<ExpressionPtr> ExpressionParser::filter_chain(bool inline_start) {
  ExpressionPtr chain;
  bool first = inline_start;
  while (first || tokens_.skip_operator("|")) {
    first = false;
    PLEIAD_TRY(next, filter(std::move(chain)));
    chain = std::move(next);
  }
  return chain;
}

Result<ExpressionPtr> ExpressionParser::test(ExpressionPtr value) {
  const int line = tokens_.line();
  tokens_.next();
  const bool negated = tokens_.skip_name("not");
  Node node = make(ExpressionKind::Test);
  PLEIAD_TRY(adopt(*node, std::move(value)));
  PLEIAD_TRY(test_name, dotted_name());
  node->test = find_test(test_name);
  if (node->test == nullptr) return unsupported("template line {}: test '{}'", line, test_name);
  const bool ends = tokens_.is_name("else") || tokens_.is_name("or") || tokens_.is_name("and") ||
                    tokens_.is_name("is") || tokens_.is_name("if") || tokens_.is_name("not") ||
                    tokens_.is_name("in") || tokens_.is_name("recursive");
  const bool literal = tokens_.is(TokenKind::Name) || tokens_.is(TokenKind::String) ||
                       tokens_.is(TokenKind::Integer) || tokens_.is(TokenKind::Float) ||
                       tokens_.is_operator("[") || tokens_.is_operator("{");
  if (tokens_.is_name("is")) return tokens_.fail("tests cannot be chained with 'is'");
  if (tokens_.is_operator("(")) {
    PLEIAD_TRY(arguments(*node));
  } else if (literal && !ends) {
    PLEIAD_TRY(argument, primary());
    PLEIAD_TRY(extended, postfix(std::move(argument)));
    node->depth = std::max(node->depth, extended->depth + 1);
    ArgumentNode held;
    held.value = std::move(extended);
    node->arguments.push_back(std::move(held));
  }
  if (!negated) return finish(std::move(node));
  Node inverse = make(ExpressionKind::Not);
  PLEIAD_TRY(adopt(*inverse, std::move(node)));
  return finish(std::move(inverse));
}

}  // namespace pleiad::text::detail
