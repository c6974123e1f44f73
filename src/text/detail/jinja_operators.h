#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "text/detail/jinja_ast.h"
#include "text/detail/jinja_runtime.h"
#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

// Python's operators on values. Failures are InvalidInput in the words Python would use.

// A number, a boolean counted as 0 or 1.
struct Number {
  bool is_float = false;
  std::int64_t whole = 0;
  double real = 0;  // also set for integers
};

std::optional<Number> number_of(const Value& value);

bool is_true(const Value& value);
Result<bool> equals(Runtime& runtime, const Value& left, const Value& right);
Result<bool> less(Runtime& runtime, const Value& left, const Value& right);
Result<bool> contains(Runtime& runtime, const Value& container, const Value& item);
Result<bool>
compare(Runtime& runtime, Comparison comparison, const Value& left, const Value& right);
Result<Value>
binary(Runtime& runtime, BinaryOperation operation, const Value& left, const Value& right);
Result<Value> negate(const Value& value);

// len()
Result<std::int64_t> length(const Value& value);

// The items that iterating over `value` gives: keys of a dict, characters of text. A generator is
// used up.
Result<std::vector<Value>> iterate(Runtime& runtime, const Value& value);

// The member of `dict` under `key`, or null.
Result<const Value*> find_member(Runtime& runtime, const Dict& dict, const Value& key);
// The same for a text key.
Result<const Value*> find_member(Runtime& runtime, const Dict& dict, std::string_view key);

// Sets dict[key], keeping the place of a key that is there already.
Result<void> put_member(Runtime& runtime, Dict& dict, const Value& key, const Value& value);

// value[index], undefined when there is no such item.
Result<Value> item(Runtime& runtime, const Value& value, const Value& index);

// Bounds of value[begin:end:step]; absent where none was written.
struct SliceBounds {
  std::optional<std::int64_t> begin;
  std::optional<std::int64_t> end;
  std::optional<std::int64_t> step;
};

Result<Value> slice(Runtime& runtime, const Value& value, const SliceBounds& bounds);

// The error for reaching into an undefined value.
Error undefined_error(const Value& value);

}  // namespace pleiad::text::detail
