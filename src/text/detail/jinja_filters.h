#pragma once

#include <string_view>

#include "base/result.h"
#include "text/detail/jinja_runtime.h"
#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

using FilterFunction = Result<Value> (*)(Runtime&, const Value&, const Arguments&);

struct FilterEntry {
  std::string_view name;
  FilterFunction apply = nullptr;
};

// The filter of that name, or null. Entries live as long as the program.
const FilterEntry* find_filter(std::string_view name);

// The two halves of find_filter(): filters on text and numbers, filters on containers.
const FilterEntry* find_text_filter(std::string_view name);
const FilterEntry* find_sequence_filter(std::string_view name);

// Parts of str that filters and methods share.
Result<Value> upper(Runtime& runtime, const TrackedText& text);
Result<Value> lower(Runtime& runtime, const TrackedText& text);
Result<Value> capitalize(Runtime& runtime, const TrackedText& text);
Result<Value> replace(
    Runtime& runtime,
    const TrackedText& text,
    const TrackedText& from,
    const TrackedText& to,
    std::int64_t count_max
);
Result<Value> join(Runtime& runtime, const TrackedText& separator, const std::vector<Value>& items);

}  // namespace pleiad::text::detail
