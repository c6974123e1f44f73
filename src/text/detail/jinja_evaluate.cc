// The half of the interpreter that gives expressions their values.
#include <utility>

#include "text/detail/jinja_attributes.h"
#include "text/detail/jinja_filters.h"
#include "text/detail/jinja_format.h"
#include "text/detail/jinja_interpreter.h"
#include "text/detail/jinja_tests.h"

namespace pleiad::text::detail {
namespace {

// **value: its members as keyword arguments.
Result<void> spread_keywords(const Value& value, Arguments& arguments) {
  const Dict* dict = value.dict();
  if (dict == nullptr) return invalid_input("** wants a mapping, not {}", type_name(value));
  for (const auto& [key, held] : dict->members) {
    if (key.text() == nullptr) return invalid_input("** wants keys that are strings");
    arguments.keywords.emplace_back(key.text()->bytes(), held);
  }
  return {};
}

}  // namespace

Result<Value> Interpreter::evaluate(const Expression& expression, Frame& frame) {
  if (expression.kind == ExpressionKind::Constant) return expression.constant;
  PLEIAD_TRY(runtime_.spend(1));
  const Nesting nesting(depth_);
  if (depth_ > limits_.depth_max) return too_deep();
  return evaluate_kind(expression, frame);
}

Result<Value> Interpreter::evaluate_kind(const Expression& expression, Frame& frame) {
  switch (expression.kind) {
    case ExpressionKind::Constant:
      return expression.constant;
    case ExpressionKind::Name:
      return evaluate_name(expression, frame);
    case ExpressionKind::List:
    case ExpressionKind::Tuple:
      return evaluate_items(expression, frame);
    case ExpressionKind::Dict:
      return evaluate_dict(expression, frame);
    case ExpressionKind::Attribute:
      return evaluate_attribute(expression, frame);
    case ExpressionKind::Item:
      return evaluate_item(expression, frame);
    case ExpressionKind::Slice:
      return evaluate_slice(expression, frame);
    case ExpressionKind::Call:
      return evaluate_call(expression, frame, Value());
    case ExpressionKind::Filter:
      return evaluate_filter(expression, frame);
    case ExpressionKind::Test:
      return evaluate_test(expression, frame);
    case ExpressionKind::Not:
    case ExpressionKind::Negate:
    case ExpressionKind::Plus:
      return evaluate_unary(expression, frame);
    case ExpressionKind::And:
    case ExpressionKind::Or:
      return evaluate_logic(expression, frame);
    case ExpressionKind::Binary:
      return evaluate_binary(expression, frame);
    case ExpressionKind::Concat:
      return evaluate_concat(expression, frame);
    case ExpressionKind::Compare:
      return evaluate_compare(expression, frame);
    case ExpressionKind::Conditional:
      return evaluate_conditional(expression, frame);
  }
  return Value();
}

Result<Value> Interpreter::evaluate_name(const Expression& expression, const Frame& frame) const {
  const Value* held = frame.find(expression.name);
  if (held != nullptr) return *held;
  return Value(Undefined{&parsed_.names[expression.name]});
}

Result<Value> Interpreter::evaluate_items(const Expression& expression, Frame& frame) {
  std::vector<Value> items;
  items.reserve(expression.children.size());
  for (const ExpressionPtr& child : expression.children) {
    PLEIAD_TRY(value, evaluate(*child, frame));
    items.push_back(value);
  }
  const bool is_list = expression.kind == ExpressionKind::List;
  return runtime_.heap().sequence(
      is_list ? SequenceKind::List : SequenceKind::Tuple, std::move(items)
  );
}

Result<Value> Interpreter::evaluate_dict(const Expression& expression, Frame& frame) {
  Dict dict;
  for (std::size_t i = 0; i < expression.children.size(); i += 2) {
    PLEIAD_TRY(key, evaluate(*expression.children[i], frame));
    PLEIAD_TRY(value, evaluate(*expression.children[i + 1], frame));
    PLEIAD_TRY(runtime_.spend(1));
    PLEIAD_TRY(put_member(runtime_, dict, key, value));
  }
  return runtime_.heap().dict(std::move(dict.members));
}

Result<Value> Interpreter::evaluate_attribute(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(object, evaluate(*expression.children[0], frame));
  PLEIAD_TRY(value, attribute(runtime_, object, expression.text->bytes()));
  if (value.get<Undefined>() != nullptr) return Value(Undefined{&expression.text->bytes()});
  return value;
}

Result<Value> Interpreter::evaluate_item(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(object, evaluate(*expression.children[0], frame));
  PLEIAD_TRY(index, evaluate(*expression.children[1], frame));
  if (object.is_undefined()) return undefined_error(object);
  const TrackedText* name = index.text();
  if (name == nullptr) return item(runtime_, object, index);
  PLEIAD_TRY(value, subscript(runtime_, object, name->bytes()));
  if (value.is_undefined()) return Value(Undefined{&name->bytes()});
  return value;
}

Result<Value> Interpreter::evaluate_slice(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(object, evaluate(*expression.children[0], frame));
  std::optional<std::int64_t> parts[3];
  for (std::size_t i = 0; i < 3; ++i) {
    const ExpressionPtr& child = expression.children[i + 1];
    if (!child) continue;
    PLEIAD_TRY(part, evaluate(*child, frame));
    if (part.is_none()) continue;
    if (part.is_undefined()) return undefined_error(part);
    PLEIAD_TRY(bound, integer_or(&part, 0, "a slice"));
    parts[i] = bound;
  }
  return slice(runtime_, object, {.begin = parts[0], .end = parts[1], .step = parts[2]});
}

// *value: its items as positional arguments.
Result<void> Interpreter::spread(const Value& value, Arguments& arguments) {
  PLEIAD_TRY(items, iterate(runtime_, value));
  arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
  return {};
}

Result<Arguments>
Interpreter::evaluate_arguments(const std::vector<ArgumentNode>& nodes, Frame& frame) {
  Arguments arguments;
  for (const ArgumentNode& node : nodes) {
    PLEIAD_TRY(value, evaluate(*node.value, frame));
    Result<void> added;
    switch (node.kind) {
      case ArgumentKind::Positional:
        arguments.positional.push_back(value);
        break;
      case ArgumentKind::Keyword:
        arguments.keywords.emplace_back(node.keyword, value);
        break;
      case ArgumentKind::Spread:
        added = spread(value, arguments);
        break;
      case ArgumentKind::SpreadKeywords:
        added = spread_keywords(value, arguments);
        break;
    }
    if (!added) return std::move(added).error();
  }
  return arguments;
}

Result<Value>
Interpreter::evaluate_call(const Expression& expression, Frame& frame, const Value& caller) {
  const Expression& callee = *expression.children[0];
  if (callee.kind == ExpressionKind::Attribute) {
    // Methods are called where they stand, without making a function of them first.
    PLEIAD_TRY(object, evaluate(*callee.children[0], frame));
    const std::string& name = callee.text->bytes();
    PLEIAD_TRY(arguments, evaluate_arguments(expression.arguments, frame));
    if (has_method(object, name)) return call_method(runtime_, object, name, arguments);
    PLEIAD_TRY(target, attribute(runtime_, object, name));
    if (target.is_undefined()) {
      return invalid_input("'{}' has no method '{}'", type_name(object), name);
    }
    return call(target, arguments, caller);
  }
  PLEIAD_TRY(target, evaluate(callee, frame));
  PLEIAD_TRY(arguments, evaluate_arguments(expression.arguments, frame));
  return call(target, arguments, caller);
}

Result<Value> Interpreter::evaluate_filter(const Expression& expression, Frame& frame) {
  Value input = filter_input_;
  if (expression.children[0]) {
    PLEIAD_TRY(value, evaluate(*expression.children[0], frame));
    input = value;
  }
  PLEIAD_TRY(arguments, evaluate_arguments(expression.arguments, frame));
  return expression.filter->apply(runtime_, input, arguments);
}

Result<Value> Interpreter::evaluate_test(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(value, evaluate(*expression.children[0], frame));
  PLEIAD_TRY(arguments, evaluate_arguments(expression.arguments, frame));
  PLEIAD_TRY(holds, expression.test->holds(runtime_, value, arguments));
  return Value(holds);
}

Result<Value> Interpreter::evaluate_logic(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(left, evaluate(*expression.children[0], frame));
  const bool decided = is_true(left) == (expression.kind == ExpressionKind::Or);
  if (decided) return left;
  return evaluate(*expression.children[1], frame);
}

Result<Value> Interpreter::evaluate_unary(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(value, evaluate(*expression.children[0], frame));
  if (expression.kind == ExpressionKind::Not) return Value(!is_true(value));
  if (expression.kind == ExpressionKind::Negate) return negate(value);
  const auto number = number_of(value);
  if (!number) return invalid_input("bad operand type for unary +: '{}'", type_name(value));
  if (number->is_float) return value;
  return Value(number->whole, value.untrusted_scalar);
}

Result<Value> Interpreter::evaluate_binary(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(left, evaluate(*expression.children[0], frame));
  PLEIAD_TRY(right, evaluate(*expression.children[1], frame));
  return binary(runtime_, expression.operation, left, right);
}

Result<Value> Interpreter::evaluate_concat(const Expression& expression, Frame& frame) {
  TrackedText joined;
  for (const ExpressionPtr& child : expression.children) {
    PLEIAD_TRY(value, evaluate(*child, frame));
    PLEIAD_TRY(text, to_text(runtime_, value));
    joined.append(text);
  }
  return runtime_.heap().text(std::move(joined));
}

Result<Value> Interpreter::evaluate_compare(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(left, evaluate(*expression.children[0], frame));
  for (std::size_t i = 0; i < expression.comparisons.size(); ++i) {
    PLEIAD_TRY(right, evaluate(*expression.children[i + 1], frame));
    PLEIAD_TRY(holds, compare(runtime_, expression.comparisons[i], left, right));
    if (!holds) return Value(false);
    left = right;
  }
  return Value(true);
}

Result<Value> Interpreter::evaluate_conditional(const Expression& expression, Frame& frame) {
  PLEIAD_TRY(condition, evaluate(*expression.children[0], frame));
  const ExpressionPtr& chosen = expression.children[is_true(condition) ? 1 : 2];
  return chosen ? evaluate(*chosen, frame) : Result<Value>(Value());
}

}  // namespace pleiad::text::detail
