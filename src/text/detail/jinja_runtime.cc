#include "text/detail/jinja_runtime.h"

#include <algorithm>

namespace pleiad::text::detail {

Result<void> Runtime::spend(std::size_t steps) {
  steps_ += steps;
  if (steps_ <= steps_max_) return {};
  return invalid_input("the chat template takes more than {} steps", steps_max_);
}

Result<Bound> bind(
    const Arguments& arguments,
    std::string_view what,
    std::initializer_list<std::string_view> names,
    std::size_t required
) {
  PLEIAD_CHECK(names.size() <= std::tuple_size_v<Bound>);
  Bound bound{};
  if (arguments.positional.size() > names.size()) {
    return invalid_input(
        "{} takes at most {} arguments, not {}", what, names.size(), arguments.positional.size()
    );
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    bound[i] = &arguments.positional[i];
  }
  for (const auto& [keyword, value] : arguments.keywords) {
    const auto* const name = std::find(names.begin(), names.end(), keyword);
    if (name == names.end()) return invalid_input("{} has no argument '{}'", what, keyword);
    const Value*& slot = bound[static_cast<std::size_t>(name - names.begin())];
    if (slot != nullptr) return invalid_input("{} got the argument '{}' twice", what, keyword);
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) {
      return invalid_input("{} needs the argument '{}'", what, *(names.begin() + i));
    }
  }
  return bound;
}

Result<std::int64_t>
integer_or(const Value* argument, std::int64_t otherwise, std::string_view what) {
  if (argument == nullptr) return otherwise;
  if (const auto* number = argument->get<std::int64_t>()) return *number;
  if (const auto* flag = argument->get<bool>()) return std::int64_t{*flag ? 1 : 0};
  return invalid_input("{} wants an integer, not {}", what, type_name(*argument));
}

}  // namespace pleiad::text::detail
