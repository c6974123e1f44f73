#include "text/detail/jinja_operators.h"

#include <algorithm>
#include <cmath>

#include "text/detail/jinja_format.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

constexpr std::int64_t kRepeatedItemsMax = 1'000'000;
constexpr std::int64_t kRepeatedBytesMax = 16 << 20;

bool both_untrusted(const Value& left, const Value& right) {
  return left.untrusted_scalar || right.untrusted_scalar;
}

Error unsupported_operands(std::string_view symbol, const Value& left, const Value& right) {
  if (left.is_undefined()) return undefined_error(left);
  if (right.is_undefined()) return undefined_error(right);
  return invalid_input(
      "unsupported operand types for {}: '{}' and '{}'", symbol, type_name(left), type_name(right)
  );
}

std::string_view symbol_of(BinaryOperation operation) {
  switch (operation) {
    case BinaryOperation::Add:
      return "+";
    case BinaryOperation::Subtract:
      return "-";
    case BinaryOperation::Multiply:
      return "*";
    case BinaryOperation::Divide:
      return "/";
    case BinaryOperation::FloorDivide:
      return "//";
    case BinaryOperation::Modulo:
      return "%";
    case BinaryOperation::Power:
      return "**";
  }
  return "?";
}

Error overflow() {
  return invalid_input("integer does not fit 64 bits");
}

std::int64_t floor_divide(std::int64_t left, std::int64_t right) {
  const std::int64_t quotient = left / right;
  const bool inexact = left % right != 0;
  return quotient - (inexact && (left < 0) != (right < 0) ? 1 : 0);
}

double floor_modulo(double left, double right) {
  const double rest = std::fmod(left, right);
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

Result<Value> integer_power(std::int64_t base, std::int64_t exponent, bool untrusted) {
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return overflow();
  }
  return Value(result, untrusted);
}

Result<Value> integer_arithmetic(
    BinaryOperation operation,
    std::int64_t left,
    std::int64_t right,
    bool untrusted
) {
  std::int64_t result = 0;
  const bool divides =
      operation == BinaryOperation::FloorDivide || operation == BinaryOperation::Modulo;
  if (divides && right == 0) return invalid_input("integer division or modulo by zero");
  // The one quotient that does not fit.
  if (divides && right == -1) {
    if (operation == BinaryOperation::Modulo) return Value(std::int64_t{0}, untrusted);
    if (__builtin_sub_overflow(std::int64_t{0}, left, &result)) return overflow();
    return Value(result, untrusted);
  }
  bool overflows = false;
  switch (operation) {
    case BinaryOperation::Add:
      overflows = __builtin_add_overflow(left, right, &result);
      break;
    case BinaryOperation::Subtract:
      overflows = __builtin_sub_overflow(left, right, &result);
      break;
    case BinaryOperation::Multiply:
      overflows = __builtin_mul_overflow(left, right, &result);
      break;
    case BinaryOperation::FloorDivide:
      result = floor_divide(left, right);
      break;
    case BinaryOperation::Modulo:
      result = left - floor_divide(left, right) * right;
      break;
    case BinaryOperation::Power:
      return integer_power(left, right, untrusted);
    case BinaryOperation::Divide:
      break;
  }
  if (overflows) return overflow();
  return Value(result, untrusted);
}

Result<Value>
arithmetic(BinaryOperation operation, const Number& left, const Number& right, bool untrusted) {
  const bool negative_power =
      operation == BinaryOperation::Power && !right.is_float && right.whole < 0;
  const bool real =
      left.is_float || right.is_float || negative_power || operation == BinaryOperation::Divide;
  if (!real) return integer_arithmetic(operation, left.whole, right.whole, untrusted);
  const bool divides = operation == BinaryOperation::Divide || negative_power ||
                       operation == BinaryOperation::FloorDivide ||
                       operation == BinaryOperation::Modulo;
  if (divides && (negative_power ? left.real : right.real) == 0) {
    return invalid_input("division by zero");
  }
  switch (operation) {
    case BinaryOperation::Add:
      return Value(left.real + right.real, untrusted);
    case BinaryOperation::Subtract:
      return Value(left.real - right.real, untrusted);
    case BinaryOperation::Multiply:
      return Value(left.real * right.real, untrusted);
    case BinaryOperation::Divide:
      return Value(left.real / right.real, untrusted);
    case BinaryOperation::FloorDivide:
      return Value(std::floor(left.real / right.real), untrusted);
    case BinaryOperation::Modulo:
      return Value(floor_modulo(left.real, right.real), untrusted);
    case BinaryOperation::Power:
      return Value(std::pow(left.real, right.real), untrusted);
  }
  return overflow();
}

Result<Value> repeat(Runtime& runtime, const Value& value, std::int64_t count) {
  count = std::max<std::int64_t>(count, 0);
  if (const TrackedText* text = value.text()) {
    const auto bytes = static_cast<std::int64_t>(text->size());
    if (bytes > 0 && count > kRepeatedBytesMax / bytes) {
      return invalid_input("text repeated to more than {} bytes", kRepeatedBytesMax);
    }
    PLEIAD_TRY(runtime.spend(static_cast<std::size_t>(bytes == 0 ? 0 : count)));
    TrackedText out;
    for (std::int64_t i = 0; bytes > 0 && i < count; ++i) {
      out.append(*text);
    }
    return runtime.heap().text(std::move(out));
  }
  const Sequence& sequence = *value.sequence();
  const auto size = static_cast<std::int64_t>(sequence.items.size());
  if (size > 0 && count > kRepeatedItemsMax / size) {
    return invalid_input("list repeated to more than {} items", kRepeatedItemsMax);
  }
  PLEIAD_TRY(runtime.spend(static_cast<std::size_t>(size * (size == 0 ? 0 : count))));
  std::vector<Value> items;
  for (std::int64_t i = 0; size > 0 && i < count; ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return runtime.heap().sequence(sequence.kind, std::move(items));
}

bool is_plain(const Sequence* sequence) {
  return sequence != nullptr &&
         (sequence->kind == SequenceKind::List || sequence->kind == SequenceKind::Tuple);
}

Result<Value> join_texts(Runtime& runtime, const TrackedText& left, const TrackedText& right) {
  PLEIAD_TRY(runtime.spend_bytes(left.size() + right.size()));
  TrackedText joined = left;
  joined.append(right);
  return runtime.heap().text(std::move(joined));
}

Result<Value> join_sequences(Runtime& runtime, const Sequence& left, const Sequence& right) {
  std::vector<Value> items = left.items;
  items.insert(items.end(), right.items.begin(), right.items.end());
  PLEIAD_TRY(runtime.spend(items.size() / 8));
  return runtime.heap().sequence(left.kind, std::move(items));
}

bool is_repeatable(const Value& value) {
  return value.text() != nullptr || is_plain(value.sequence());
}

// + on text and lists, * on either with a count, % on text; an error where none of those applies.
Result<Value> container_operation(
    Runtime& runtime,
    BinaryOperation operation,
    const Value& left,
    const Value& right
) {
  const Sequence* a = left.sequence();
  const Sequence* b = right.sequence();
  const auto* left_count = left.get<std::int64_t>();
  const auto* right_count = right.get<std::int64_t>();
  const bool adds = operation == BinaryOperation::Add;
  const bool multiplies = operation == BinaryOperation::Multiply;
  if (adds && left.text() != nullptr && right.text() != nullptr) {
    return join_texts(runtime, *left.text(), *right.text());
  }
  if (adds && is_plain(a) && is_plain(b) && a->kind == b->kind) {
    return join_sequences(runtime, *a, *b);
  }
  if (multiplies && is_repeatable(left) && right_count != nullptr) {
    return repeat(runtime, left, *right_count);
  }
  if (multiplies && is_repeatable(right) && left_count != nullptr) {
    return repeat(runtime, right, *left_count);
  }
  if (operation == BinaryOperation::Modulo && left.text() != nullptr) {
    const bool many = b != nullptr && b->kind == SequenceKind::Tuple;
    return format_percent(runtime, *left.text(), many ? b->items : std::vector<Value>{right});
  }
  return unsupported_operands(symbol_of(operation), left, right);
}

Result<bool> equal_sequences(Runtime& runtime, const Sequence& left, const Sequence& right) {
  if (&left == &right) return true;
  if (left.kind != right.kind || left.items.size() != right.items.size()) return false;
  if (left.kind == SequenceKind::Generator) return false;
  for (std::size_t i = 0; i < left.items.size(); ++i) {
    PLEIAD_TRY(same, equals(runtime, left.items[i], right.items[i]));
    if (!same) return false;
  }
  return true;
}

Result<bool> equal_dicts(Runtime& runtime, const Dict& left, const Dict& right) {
  if (&left == &right) return true;
  if (left.members.size() != right.members.size()) return false;
  for (const auto& [key, value] : left.members) {
    PLEIAD_TRY(other, find_member(runtime, right, key));
    if (other == nullptr) return false;
    PLEIAD_TRY(same, equals(runtime, value, *other));
    if (!same) return false;
  }
  return true;
}

// Equality of what is only equal to itself.
bool same_object(const Value& left, const Value& right) {
  if (left.content.index() != right.content.index()) return false;
  if (left.is_undefined() || left.is_none()) return true;
  if (const auto* space = left.get<Namespace*>()) return *space == *right.get<Namespace*>();
  if (const auto* loop = left.get<const LoopState*>()) {
    return *loop == *right.get<const LoopState*>();
  }
  const auto* function = left.get<const Function*>();
  return function != nullptr && *function == *right.get<const Function*>();
}

}  // namespace

Error undefined_error(const Value& value) {
  const auto* undefined = value.get<Undefined>();
  if (undefined != nullptr && undefined->name != nullptr) {
    return invalid_input("'{}' is undefined", *undefined->name);
  }
  return invalid_input("a value is undefined");
}

std::optional<Number> number_of(const Value& value) {
  if (const auto* flag = value.get<bool>()) return Number{false, *flag ? 1 : 0, *flag ? 1.0 : 0.0};
  if (const auto* whole = value.get<std::int64_t>()) {
    return Number{false, *whole, static_cast<double>(*whole)};
  }
  if (const auto* real = value.get<double>()) return Number{true, 0, *real};
  return std::nullopt;
}

bool is_true(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (const auto number = number_of(value)) {
    return number->is_float ? number->real != 0 : number->whole != 0;
  }
  if (const TrackedText* text = value.text()) return !text->empty();
  if (const Sequence* sequence = value.sequence()) {
    return sequence->kind == SequenceKind::Generator || !sequence->items.empty();
  }
  if (const Dict* dict = value.dict()) return !dict->members.empty();
  return true;
}

Result<bool> equals(Runtime& runtime, const Value& left, const Value& right) {
  PLEIAD_TRY(runtime.spend(1));
  const auto left_number = number_of(left);
  const auto right_number = number_of(right);
  if (left_number && right_number) {
    if (left_number->is_float || right_number->is_float) {
      return left_number->real == right_number->real;
    }
    return left_number->whole == right_number->whole;
  }
  if (left.text() != nullptr && right.text() != nullptr) {
    if (left.text()->size() != right.text()->size()) return false;
    PLEIAD_TRY(runtime.spend_bytes(left.text()->size()));
    return left.text()->bytes() == right.text()->bytes();
  }
  if (left.sequence() != nullptr && right.sequence() != nullptr) {
    return equal_sequences(runtime, *left.sequence(), *right.sequence());
  }
  if (left.dict() != nullptr && right.dict() != nullptr) {
    return equal_dicts(runtime, *left.dict(), *right.dict());
  }
  return same_object(left, right);
}

Result<bool> less(Runtime& runtime, const Value& left, const Value& right) {
  PLEIAD_TRY(runtime.spend(1));
  const auto left_number = number_of(left);
  const auto right_number = number_of(right);
  if (left_number && right_number) {
    if (left_number->is_float || right_number->is_float) {
      return left_number->real < right_number->real;
    }
    return left_number->whole < right_number->whole;
  }
  if (left.text() != nullptr && right.text() != nullptr) {
    PLEIAD_TRY(runtime.spend_bytes(std::min(left.text()->size(), right.text()->size())));
    // Bytes of UTF-8 sort as the characters do.
    return left.text()->bytes() < right.text()->bytes();
  }
  const Sequence* a = left.sequence();
  const Sequence* b = right.sequence();
  if (!is_plain(a) || !is_plain(b) || a->kind != b->kind) {
    return unsupported_operands("<", left, right);
  }
  for (std::size_t i = 0; i < std::min(a->items.size(), b->items.size()); ++i) {
    PLEIAD_TRY(same, equals(runtime, a->items[i], b->items[i]));
    if (!same) return less(runtime, a->items[i], b->items[i]);
  }
  return a->items.size() < b->items.size();
}

Result<bool> contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_undefined()) return false;
  if (const TrackedText* text = container.text()) {
    const TrackedText* part = item.text();
    if (part == nullptr) {
      return invalid_input("'in <string>' needs a string on the left, not {}", type_name(item));
    }
    PLEIAD_TRY(runtime.spend_bytes(text->size()));
    return text->bytes().find(part->bytes()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    PLEIAD_TRY(member, find_member(runtime, *dict, item));
    return member != nullptr;
  }
  if (container.sequence() == nullptr) {
    return invalid_input("'in' needs a container on the right, not {}", type_name(container));
  }
  PLEIAD_TRY(items, iterate(runtime, container));
  for (const Value& held : items) {
    PLEIAD_TRY(same, equals(runtime, held, item));
    if (same) return true;
  }
  return false;
}

Result<bool>
compare(Runtime& runtime, Comparison comparison, const Value& left, const Value& right) {
  switch (comparison) {
    case Comparison::Equal:
      return equals(runtime, left, right);
    case Comparison::NotEqual: {
      PLEIAD_TRY(same, equals(runtime, left, right));
      return !same;
    }
    case Comparison::Less:
      return less(runtime, left, right);
    case Comparison::Greater:
      return less(runtime, right, left);
    case Comparison::LessEqual:
    case Comparison::GreaterEqual: {
      const bool flipped = comparison == Comparison::GreaterEqual;
      PLEIAD_TRY(before, less(runtime, flipped ? right : left, flipped ? left : right));
      if (before) return true;
      return equals(runtime, left, right);
    }
    case Comparison::In:
      return contains(runtime, right, left);
    case Comparison::NotIn: {
      PLEIAD_TRY(inside, contains(runtime, right, left));
      return !inside;
    }
  }
  return false;
}

Result<Value>
binary(Runtime& runtime, BinaryOperation operation, const Value& left, const Value& right) {
  const auto left_number = number_of(left);
  const auto right_number = number_of(right);
  if (left_number && right_number) {
    return arithmetic(operation, *left_number, *right_number, both_untrusted(left, right));
  }
  return container_operation(runtime, operation, left, right);
}

Result<Value> negate(const Value& value) {
  const auto number = number_of(value);
  if (!number) {
    if (value.is_undefined()) return undefined_error(value);
    return invalid_input("bad operand type for unary -: '{}'", type_name(value));
  }
  if (number->is_float) return Value(-number->real, value.untrusted_scalar);
  std::int64_t result = 0;
  if (__builtin_sub_overflow(std::int64_t{0}, number->whole, &result)) return overflow();
  return Value(result, value.untrusted_scalar);
}

Result<std::int64_t> length(const Value& value) {
  if (value.is_undefined()) return std::int64_t{0};
  if (const TrackedText* text = value.text()) {
    return static_cast<std::int64_t>(character_count(text->bytes()));
  }
  if (const Dict* dict = value.dict()) return static_cast<std::int64_t>(dict->members.size());
  const Sequence* sequence = value.sequence();
  if (sequence == nullptr || sequence->kind == SequenceKind::Generator) {
    return invalid_input("{} has no length", type_name(value));
  }
  return static_cast<std::int64_t>(sequence->items.size());
}

}  // namespace pleiad::text::detail
