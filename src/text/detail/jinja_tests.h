#pragma once

#include <string_view>

#include "base/result.h"
#include "text/detail/jinja_runtime.h"
#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

using TestFunction = Result<bool> (*)(Runtime&, const Value&, const Arguments&);

// What stands behind `is`.
struct TestEntry {
  std::string_view name;
  TestFunction holds = nullptr;
};

// The test of that name, or null. Entries live as long as the program.
const TestEntry* find_test(std::string_view name);

}  // namespace pleiad::text::detail
