#include "text/detail/jinja_tests.h"

#include <algorithm>
#include <array>

#include "text/detail/jinja_filters.h"
#include "text/detail/jinja_operators.h"

namespace pleiad::text::detail {
namespace {

template <bool (*kHolds)(const Value&)>
Result<bool> plain(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "a test", {}));
  return kHolds(value);
}

template <Comparison kComparison>
Result<bool> compares(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "a comparing test", {"other"}, 1));
  return compare(runtime, kComparison, value, *bound[0]);
}

bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_string(const Value& value) {
  return value.text() != nullptr;
}
bool is_mapping(const Value& value) {
  return value.dict() != nullptr;
}
bool is_number(const Value& value) {
  return number_of(value).has_value();
}
bool is_integer(const Value& value) {
  return value.is<std::int64_t>();
}
bool is_float(const Value& value) {
  return value.is<double>();
}
bool is_boolean(const Value& value) {
  return value.is<bool>();
}
bool is_exactly_true(const Value& value) {
  return value.is<bool>() && is_true(value);
}
bool is_exactly_false(const Value& value) {
  return value.is<bool>() && !is_true(value);
}
bool is_callable(const Value& value) {
  return value.is<const Function*>();
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.text() != nullptr || value.sequence() != nullptr ||
         value.dict() != nullptr;
}

bool is_sequence(const Value& value) {
  if (const Sequence* sequence = value.sequence()) {
    return sequence->kind != SequenceKind::Generator && sequence->kind != SequenceKind::View;
  }
  return value.is_undefined() || value.text() != nullptr || value.dict() != nullptr;
}

Result<std::int64_t> remainder(const Value& value, std::int64_t divisor) {
  const auto number = number_of(value);
  if (!number || number->is_float) {
    if (value.is_undefined()) return undefined_error(value);
    return invalid_input("a divisibility test on {}", type_name(value));
  }
  if (divisor == 0) return invalid_input("integer division or modulo by zero");
  return divisor == -1 ? 0 : number->whole % divisor;
}

Result<bool> test_odd(Runtime& /*runtime*/, const Value& value, const Arguments& /*arguments*/) {
  PLEIAD_TRY(rest, remainder(value, 2));
  return rest != 0;
}

Result<bool> test_even(Runtime& /*runtime*/, const Value& value, const Arguments& /*arguments*/) {
  PLEIAD_TRY(rest, remainder(value, 2));
  return rest == 0;
}

Result<bool>
test_divisibleby(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "test 'divisibleby'", {"num"}, 1));
  PLEIAD_TRY(divisor, integer_or(bound[0], 0, "test 'divisibleby'"));
  PLEIAD_TRY(rest, remainder(value, divisor));
  return rest == 0;
}

Result<bool> test_sameas(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "test 'sameas'", {"other"}, 1));
  const Value& other = *bound[0];
  if (value.content.index() != other.content.index()) return false;
  if (value.is_undefined() || value.is_none()) return true;
  if (const auto* whole = value.get<std::int64_t>()) return *whole == *other.get<std::int64_t>();
  if (const auto* truth = value.get<bool>()) return *truth == *other.get<bool>();
  if (value.text() != nullptr) return value.text() == other.text();
  return value.sequence() == other.sequence() && value.dict() == other.dict();
}

Result<bool> has_case(Runtime& runtime, const Value& value, bool upper_case) {
  const TrackedText* text = value.text();
  if (text == nullptr) return false;
  PLEIAD_TRY(raised, upper(runtime, *text));
  PLEIAD_TRY(lowered, lower(runtime, *text));
  const std::string& wanted = (upper_case ? raised : lowered).text()->bytes();
  // Text without letters has no case.
  return text->bytes() == wanted && raised.text()->bytes() != lowered.text()->bytes();
}

Result<bool> test_upper(Runtime& runtime, const Value& value, const Arguments& /*arguments*/) {
  return has_case(runtime, value, true);
}

Result<bool> test_lower(Runtime& runtime, const Value& value, const Arguments& /*arguments*/) {
  return has_case(runtime, value, false);
}

constexpr TestEntry kTests[] = {
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"none", plain<is_none>},
    {"string", plain<is_string>},
    {"mapping", plain<is_mapping>},
    {"number", plain<is_number>},
    {"integer", plain<is_integer>},
    {"float", plain<is_float>},
    {"boolean", plain<is_boolean>},
    {"true", plain<is_exactly_true>},
    {"false", plain<is_exactly_false>},
    {"iterable", plain<is_iterable>},
    {"sequence", plain<is_sequence>},
    {"callable", plain<is_callable>},
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"sameas", test_sameas},
    {"upper", test_upper},
    {"lower", test_lower},
    {"eq", compares<Comparison::Equal>},
    {"equalto", compares<Comparison::Equal>},
    {"==", compares<Comparison::Equal>},
    {"ne", compares<Comparison::NotEqual>},
    {"!=", compares<Comparison::NotEqual>},
    {"lt", compares<Comparison::Less>},
    {"lessthan", compares<Comparison::Less>},
    {"<", compares<Comparison::Less>},
    {"le", compares<Comparison::LessEqual>},
    {"<=", compares<Comparison::LessEqual>},
    {"gt", compares<Comparison::Greater>},
    {"greaterthan", compares<Comparison::Greater>},
    {">", compares<Comparison::Greater>},
    {"ge", compares<Comparison::GreaterEqual>},
    {">=", compares<Comparison::GreaterEqual>},
    {"in", compares<Comparison::In>},
};

}  // namespace

const TestEntry* find_test(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kTests), std::end(kTests), [&](const TestEntry& entry) {
        return entry.name == name;
      });
  return found == std::end(kTests) ? nullptr : found;
}

}  // namespace pleiad::text::detail
