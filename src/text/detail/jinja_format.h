#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/detail/jinja_runtime.h"
#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

// str(): how a value prints. Text keeps its marks; what is made from untrusted values is marked
// whole.
Result<TrackedText> to_text(Runtime& runtime, const Value& value);

// repr(): as str(), but text is quoted.
Result<std::string> to_repr(Runtime& runtime, const Value& value);

struct JsonStyle {
  bool ascii_only = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level of it; absent: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// json.dumps() with the given style. Fails with InvalidInput on what has no JSON.
Result<TrackedText> to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

// text % values, for %s %r %d %i %f %e %g %x %% with flags, width and precision.
Result<Value>
format_percent(Runtime& runtime, const TrackedText& format, const std::vector<Value>& values);

}  // namespace pleiad::text::detail
