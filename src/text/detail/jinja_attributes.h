#pragma once

#include <string_view>

#include "base/result.h"
#include "text/detail/jinja_runtime.h"
#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

// value.name as Jinja resolves it: a method first, then a member; undefined where there is neither.
// Methods that would change a list or dict are refused.
Result<Value> attribute(Runtime& runtime, const Value& value, std::string_view name);

// value["name"]: a member first, then an attribute.
Result<Value> subscript(Runtime& runtime, const Value& value, std::string_view name);

// Whether values of this type have the method; see call_method.
bool has_method(const Value& value, std::string_view name);

// value.name(arguments). REQUIRES: has_method(value, name).
Result<Value> call_method(
    Runtime& runtime,
    const Value& value,
    std::string_view name,
    const Arguments& arguments
);

// The methods of text, found in jinja_text_methods.cc.
bool has_text_method(std::string_view name);
Result<Value> call_text_method(
    Runtime& runtime,
    const TrackedText& text,
    std::string_view name,
    const Arguments& arguments
);

}  // namespace pleiad::text::detail
