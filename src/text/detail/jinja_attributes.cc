#include "text/detail/jinja_attributes.h"

#include <algorithm>
#include <array>

#include "text/detail/jinja_operators.h"

namespace pleiad::text::detail {
namespace {

constexpr std::array<std::string_view, 4> kDictMethods = {"get", "items", "keys", "values"};
constexpr std::array<std::string_view, 5> kDictMutators =
    {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::array<std::string_view, 2> kListMethods = {"count", "index"};
constexpr std::array<std::string_view, 8> kListMutators =
    {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};

template <std::size_t kCount>
bool is_one_of(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_mutator(const Value& value, std::string_view name) {
  if (value.dict() != nullptr) return is_one_of(kDictMutators, name);
  const Sequence* sequence = value.sequence();
  return sequence != nullptr && sequence->kind == SequenceKind::List &&
         is_one_of(kListMutators, name);
}

Result<Value> loop_attribute(Runtime& /*runtime*/, const LoopState& loop, std::string_view name) {
  const auto index = static_cast<std::int64_t>(loop.index);
  const auto size = static_cast<std::int64_t>(loop.items->size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(size - index);
  if (name == "revindex0") return Value(size - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == size);
  if (name == "length") return Value(size);
  // Loops that are not recursive are all at the top, however they nest.
  if (name == "depth") return Value(std::int64_t{1});
  if (name == "depth0") return Value(std::int64_t{0});
  if (name == "previtem") return index > 0 ? (*loop.items)[loop.index - 1] : Value();
  if (name == "nextitem") return index + 1 < size ? (*loop.items)[loop.index + 1] : Value();
  return Value();
}

Result<Value> view(Runtime& runtime, const Dict& dict, std::string_view name) {
  PLEIAD_TRY(runtime.spend(dict.members.size()));
  std::vector<Value> items;
  items.reserve(dict.members.size());
  for (const auto& [key, value] : dict.members) {
    if (name == "keys") {
      items.push_back(key);
    } else if (name == "values") {
      items.push_back(value);
    } else {
      PLEIAD_TRY(pair, runtime.heap().sequence(SequenceKind::Tuple, {key, value}));
      items.push_back(pair);
    }
  }
  return runtime.heap().sequence(SequenceKind::View, std::move(items));
}

Result<Value> call_dict_method(
    Runtime& runtime,
    const Dict& dict,
    std::string_view name,
    const Arguments& arguments
) {
  if (name != "get") {
    PLEIAD_TRY(bind(arguments, "a method of dict", {}));
    return view(runtime, dict, name);
  }
  PLEIAD_TRY(bound, bind(arguments, "dict.get", {"key", "default"}, 1));
  PLEIAD_TRY(member, find_member(runtime, dict, *bound[0]));
  if (member != nullptr) return *member;
  return bound[1] == nullptr ? Value(None{}) : *bound[1];
}

Result<Value> call_list_method(
    Runtime& runtime,
    const Sequence& sequence,
    std::string_view name,
    const Arguments& arguments
) {
  PLEIAD_TRY(bound, bind(arguments, "a method of list", {"value"}, 1));
  std::int64_t count = 0;
  for (std::size_t i = 0; i < sequence.items.size(); ++i) {
    PLEIAD_TRY(same, equals(runtime, sequence.items[i], *bound[0]));
    if (!same) continue;
    if (name == "index") return Value(static_cast<std::int64_t>(i));
    ++count;
  }
  if (name == "index") return invalid_input("list.index: the value is not in the list");
  return Value(count);
}

// loop.cycle(a, b, c)
Result<Value> call_loop_method(const LoopState& loop, const Arguments& arguments) {
  if (arguments.positional.empty()) return invalid_input("loop.cycle has nothing to cycle through");
  return arguments.positional[loop.index % arguments.positional.size()];
}

// A member that is no method.
Result<Value> member_of(Runtime& runtime, const Value& value, std::string_view name) {
  if (const Dict* dict = value.dict()) {
    PLEIAD_TRY(member, find_member(runtime, *dict, name));
    return member == nullptr ? Value() : *member;
  }
  if (const auto* space = value.get<Namespace*>()) {
    for (const auto& [known, held] : (*space)->attributes) {
      if (known == name) return held;
    }
    return Value();
  }
  if (const auto* loop = value.get<const LoopState*>()) {
    return loop_attribute(runtime, **loop, name);
  }
  return Value();
}

Result<Value> method_value(Runtime& runtime, const Value& value, std::string_view name) {
  return runtime.heap().function({BoundMethod{value, std::string(name)}});
}

Result<void> check_name(const Value& value, std::string_view name) {
  if (value.is_undefined()) return undefined_error(value);
  if (is_mutator(value, name)) {
    return invalid_input("'{}' would change a {}, which templates may not", name, type_name(value));
  }
  return {};
}

}  // namespace

bool has_method(const Value& value, std::string_view name) {
  if (value.text() != nullptr) return has_text_method(name);
  if (value.dict() != nullptr) return is_one_of(kDictMethods, name);
  if (const Sequence* sequence = value.sequence()) {
    const bool plain = sequence->kind == SequenceKind::List ||
                       sequence->kind == SequenceKind::Tuple ||
                       sequence->kind == SequenceKind::Range;
    return plain && is_one_of(kListMethods, name);
  }
  return value.is<const LoopState*>() && name == "cycle";
}

Result<Value> attribute(Runtime& runtime, const Value& value, std::string_view name) {
  PLEIAD_TRY(runtime.spend(1));
  PLEIAD_TRY(check_name(value, name));
  if (has_method(value, name)) return method_value(runtime, value, name);
  return member_of(runtime, value, name);
}

Result<Value> subscript(Runtime& runtime, const Value& value, std::string_view name) {
  PLEIAD_TRY(runtime.spend(1));
  if (const Dict* dict = value.dict()) {
    PLEIAD_TRY(member, find_member(runtime, *dict, name));
    if (member != nullptr) return *member;
  }
  return attribute(runtime, value, name);
}

Result<Value> call_method(
    Runtime& runtime,
    const Value& value,
    std::string_view name,
    const Arguments& arguments
) {
  PLEIAD_CHECK(has_method(value, name));
  if (value.text() != nullptr) return call_text_method(runtime, *value.text(), name, arguments);
  if (value.dict() != nullptr) return call_dict_method(runtime, *value.dict(), name, arguments);
  if (const auto* loop = value.get<const LoopState*>()) return call_loop_method(**loop, arguments);
  return call_list_method(runtime, *value.sequence(), name, arguments);
}

}  // namespace pleiad::text::detail
