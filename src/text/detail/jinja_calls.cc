// The half of the interpreter that calls macros and the global functions.
#include <algorithm>

#include "text/detail/jinja_attributes.h"
#include "text/detail/jinja_format.h"
#include "text/detail/jinja_interpreter.h"

namespace pleiad::text::detail {
namespace {

constexpr std::int64_t kRangeItemsMax = 100'000;

}  // namespace

Result<Value>
Interpreter::call(const Value& callee, const Arguments& arguments, const Value& caller) {
  if (callee.is_undefined()) return undefined_error(callee);
  const auto* function = callee.get<const Function*>();
  if (function == nullptr) return invalid_input("'{}' cannot be called", type_name(callee));
  const auto& target = (*function)->target;
  if (const auto* global = std::get_if<Global>(&target)) return call_global(*global, arguments);
  if (const auto* method = std::get_if<BoundMethod>(&target)) {
    return call_method(runtime_, method->self, method->name, arguments);
  }
  return call_macro(std::get<MacroClosure>(target), arguments, caller);
}

Result<Value> Interpreter::call_macro(
    const MacroClosure& closure,
    const Arguments& arguments,
    const Value& caller
) {
  PLEIAD_TRY(frame, runtime_.heap().frame(closure.scope));
  const auto caller_name = id_of("caller");
  if (caller_name && !caller.is_undefined()) frame->set(*caller_name, caller);
  PLEIAD_TRY(bind_macro(*closure.macro, arguments, *frame));
  PLEIAD_TRY(text, capture(closure.macro->body, *frame));
  return runtime_.heap().text(std::move(text));
}

Result<void>
Interpreter::bind_macro(const MacroNode& macro, const Arguments& arguments, Frame& frame) {
  std::vector<bool> used(arguments.keywords.size(), false);
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    bool given = i < arguments.positional.size();
    Value value = given ? arguments.positional[i] : Value(Undefined{&parameter.text});
    for (std::size_t k = 0; k < arguments.keywords.size(); ++k) {
      if (arguments.keywords[k].first != parameter.text) continue;
      if (given) return invalid_input("macro '{}' got '{}' twice", macro.name, parameter.text);
      value = arguments.keywords[k].second;
      given = true;
      used[k] = true;
    }
    if (!given && parameter.fallback) {
      PLEIAD_TRY(fallback, evaluate(*parameter.fallback, frame));
      value = fallback;
    }
    frame.set(parameter.name, value);
  }
  return bind_surplus(macro, arguments, used, frame);
}

// What no parameter takes goes to varargs and kwargs where the macro mentions them.
Result<void> Interpreter::bind_surplus(
    const MacroNode& macro,
    const Arguments& arguments,
    const std::vector<bool>& used,
    Frame& frame
) {
  const std::size_t taken = std::min(macro.parameters.size(), arguments.positional.size());
  std::vector<Value> positional(
      arguments.positional.begin() + static_cast<std::ptrdiff_t>(taken), arguments.positional.end()
  );
  if (!positional.empty() && !macro.takes_varargs) {
    return invalid_input(
        "macro '{}' takes {} arguments, not {}",
        macro.name,
        macro.parameters.size(),
        arguments.positional.size()
    );
  }
  std::vector<std::pair<Value, Value>> keywords;
  for (std::size_t k = 0; k < used.size(); ++k) {
    if (used[k]) continue;
    if (!macro.takes_kwargs) {
      return invalid_input(
          "macro '{}' has no argument '{}'", macro.name, arguments.keywords[k].first
      );
    }
    PLEIAD_TRY(key, runtime_.heap().text(arguments.keywords[k].first));
    keywords.emplace_back(key, arguments.keywords[k].second);
  }
  if (const auto name = id_of("varargs"); name && macro.takes_varargs) {
    PLEIAD_TRY(value, runtime_.heap().sequence(SequenceKind::Tuple, std::move(positional)));
    frame.set(*name, value);
  }
  if (const auto name = id_of("kwargs"); name && macro.takes_kwargs) {
    PLEIAD_TRY(value, runtime_.heap().dict(std::move(keywords)));
    frame.set(*name, value);
  }
  return {};
}

Result<Value> Interpreter::call_global(Global global, const Arguments& arguments) {
  switch (global) {
    case Global::Range:
      return make_range(arguments);
    case Global::Namespace:
      return make_namespace(arguments);
    case Global::Dict:
      return make_dict(arguments);
    case Global::RaiseException: {
      PLEIAD_TRY(bound, bind(arguments, "raise_exception", {"message"}, 1));
      PLEIAD_TRY(message, to_text(runtime_, *bound[0]));
      raised_ = true;
      return invalid_input("{}", message.bytes());
    }
    case Global::StrftimeNow: {
      PLEIAD_TRY(bound, bind(arguments, "strftime_now", {"format"}, 1));
      if (bound[0]->text() == nullptr) return invalid_input("strftime_now wants a string");
      PLEIAD_TRY(text, format_date(bound[0]->text()->bytes(), date_));
      return runtime_.heap().text(text);
    }
  }
  return Value();
}

Result<Value> Interpreter::make_range(const Arguments& arguments) {
  const auto& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.keywords.empty()) {
    return invalid_input("range takes one to three integers");
  }
  std::int64_t parts[3] = {0, 0, 1};
  for (std::size_t i = 0; i < given.size(); ++i) {
    PLEIAD_TRY(part, integer_or(&given[i], 0, "range"));
    parts[given.size() == 1 ? 1 : i] = part;
  }
  const auto [begin, end, step] = parts;
  if (step == 0) return invalid_input("range with a step of zero");
  std::vector<Value> items;
  for (std::int64_t at = begin; step > 0 ? at < end : at > end;) {
    if (static_cast<std::int64_t>(items.size()) >= kRangeItemsMax) {
      return invalid_input("range of more than {} items", kRangeItemsMax);
    }
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  PLEIAD_TRY(runtime_.spend(items.size() / 8));
  return runtime_.heap().sequence(SequenceKind::Range, std::move(items));
}

Result<Value> Interpreter::make_namespace(const Arguments& arguments) {
  PLEIAD_TRY(source, make_dict(arguments));
  PLEIAD_TRY(space, runtime_.heap().name_space());
  for (const auto& [key, value] : source.dict()->members) {
    if (key.text() == nullptr) return invalid_input("namespace wants names that are strings");
    space->attributes.emplace_back(key.text()->bytes(), value);
  }
  return Value(space);
}

// Adds the members of a mapping, or of a list of pairs.
Result<void> Interpreter::add_members(Dict& dict, const Value& source) {
  if (const Dict* other = source.dict()) {
    dict.members = other->members;
    return runtime_.spend(dict.members.size() / 8);
  }
  PLEIAD_TRY(pairs, iterate(runtime_, source));
  for (const Value& pair : pairs) {
    const Sequence* parts = pair.sequence();
    if (parts == nullptr || parts->items.size() != 2) {
      return invalid_input("dict wants pairs of key and value");
    }
    PLEIAD_TRY(put_member(runtime_, dict, parts->items[0], parts->items[1]));
  }
  return {};
}

Result<Value> Interpreter::make_dict(const Arguments& arguments) {
  if (arguments.positional.size() > 1) return invalid_input("dict takes at most one argument");
  Dict dict;
  for (const Value& source : arguments.positional) {
    PLEIAD_TRY(add_members(dict, source));
  }
  for (const auto& [name, value] : arguments.keywords) {
    PLEIAD_TRY(key, runtime_.heap().text(name));
    PLEIAD_TRY(put_member(runtime_, dict, key, value));
  }
  return runtime_.heap().dict(std::move(dict.members));
}

}  // namespace pleiad::text::detail
