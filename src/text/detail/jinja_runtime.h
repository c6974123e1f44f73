#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

// What one rendering may use up, and what it has made. Work is counted, never timed, so that the
// same template on the same request always ends the same way.
class Runtime {
 public:
  Runtime(std::size_t steps_max, const HeapLimits& heap_limits)
      : heap_(heap_limits), steps_max_(steps_max) {}

  [[nodiscard]] Heap& heap() { return heap_; }

  // Pays for `steps` units of work; InvalidInput once the budget is spent.
  Result<void> spend(std::size_t steps);
  // Pays for work that is linear in `bytes`.
  Result<void> spend_bytes(std::size_t bytes) { return spend(1 + bytes / kBytesPerStep); }

 private:
  static constexpr std::size_t kBytesPerStep = 64;

  Heap heap_;
  std::size_t steps_ = 0;
  std::size_t steps_max_;
};

// The arguments of a call, a filter or a test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> keywords;
};

// At most this many parameters has anything that bind() serves.
using Bound = std::array<const Value*, 6>;

// The arguments in the order of `names`, null where absent. Fails with InvalidInput, naming `what`,
// on too many, unknown or repeated arguments, or when one of the first `required` is missing.
Result<Bound> bind(
    const Arguments& arguments,
    std::string_view what,
    std::initializer_list<std::string_view> names,
    std::size_t required = 0
);

// The argument as an integer, or `otherwise` where it is absent.
Result<std::int64_t>
integer_or(const Value* argument, std::int64_t otherwise, std::string_view what);

}  // namespace pleiad::text::detail
