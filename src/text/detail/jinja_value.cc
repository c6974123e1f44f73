#include "text/detail/jinja_value.h"

#include <algorithm>

namespace pleiad::text::detail {
namespace {

constexpr int kJsonDepthMax = 128;

int depth_of(const Value& value) {
  if (const Sequence* sequence = value.sequence()) return sequence->depth;
  if (const Dict* dict = value.dict()) return dict->depth;
  return 0;
}

}  // namespace

void Frame::set(NameId name, Value value) {
  for (auto& [known, held] : variables) {
    if (known == name) {
      held = value;
      return;
    }
  }
  variables.emplace_back(name, value);
}

const Value* Frame::find(NameId name) const {
  for (const Frame* frame = this; frame != nullptr; frame = frame->parent) {
    for (const auto& [known, held] : frame->variables) {
      if (known == name) return &held;
    }
  }
  return nullptr;
}

Result<void> Heap::take(std::size_t bytes) {
  bytes_ += bytes;
  if (bytes_ <= limits_.bytes_max) return {};
  return invalid_input("the chat template uses more than {} bytes of memory", limits_.bytes_max);
}

Result<Value> Heap::text(TrackedText text) {
  PLEIAD_TRY(take(sizeof(TrackedText) + text.size() + text.untrusted().size() * sizeof(TextRange)));
  texts_.push_back(std::move(text));
  const TrackedText* held = &texts_.back();
  return Value(held);
}

Result<Value> Heap::sequence(SequenceKind kind, std::vector<Value> items) {
  PLEIAD_TRY(take(sizeof(Sequence) + items.size() * sizeof(Value)));
  Sequence made{.kind = kind, .items = std::move(items)};
  for (const Value& item : made.items) {
    made.depth = std::max(made.depth, depth_of(item) + 1);
    made.untrusted = made.untrusted || is_untrusted(item);
  }
  if (made.depth > limits_.depth_max) {
    return invalid_input("the chat template nests lists deeper than {}", limits_.depth_max);
  }
  sequences_.push_back(std::move(made));
  return Value(&sequences_.back());
}

Result<Value> Heap::dict(std::vector<std::pair<Value, Value>> members) {
  PLEIAD_TRY(take(sizeof(Dict) + members.size() * 2 * sizeof(Value)));
  Dict made{.members = std::move(members)};
  for (const auto& [key, value] : made.members) {
    made.depth = std::max({made.depth, depth_of(key) + 1, depth_of(value) + 1});
    made.untrusted = made.untrusted || is_untrusted(key) || is_untrusted(value);
  }
  if (made.depth > limits_.depth_max) {
    return invalid_input("the chat template nests dicts deeper than {}", limits_.depth_max);
  }
  dicts_.push_back(std::move(made));
  const Dict* held = &dicts_.back();
  return Value(held);
}

Result<Value> Heap::function(Function function) {
  PLEIAD_TRY(take(sizeof(Function)));
  functions_.push_back(std::move(function));
  const Function* held = &functions_.back();
  return Value(held);
}

Result<Namespace*> Heap::name_space() {
  PLEIAD_TRY(take(sizeof(Namespace)));
  namespaces_.emplace_back();
  return &namespaces_.back();
}

Result<Frame*> Heap::frame(const Frame* parent) {
  PLEIAD_TRY(take(sizeof(Frame) + 4 * sizeof(Value)));
  frames_.push_back({parent, {}});
  return &frames_.back();
}

Result<LoopState*> Heap::loop(const std::vector<Value>* items) {
  PLEIAD_TRY(take(sizeof(LoopState)));
  loops_.push_back({.items = items});
  return &loops_.back();
}

Result<Value> Heap::from_json(const Json& json, int depth) {
  if (depth > kJsonDepthMax) {
    return invalid_input("request nested deeper than {} levels", kJsonDepthMax);
  }
  if (json.is_null()) return Value(None{});
  if (const auto flag = json.as_bool()) return Value(*flag, true);
  if (json.is_integer() && json.as_int()) return Value(*json.as_int(), true);
  if (const auto number = json.as_double()) return Value(*number, true);
  if (const std::string* string = json.as_string()) return text(TrackedText(*string, true));
  if (const JsonArray* array = json.as_array()) {
    std::vector<Value> items;
    items.reserve(array->size());
    for (const Json& item : *array) {
      PLEIAD_TRY(value, from_json(item, depth + 1));
      items.push_back(value);
    }
    return list(std::move(items));
  }
  std::vector<std::pair<Value, Value>> members;
  members.reserve(json.as_object()->size());
  for (const auto& [name, member] : *json.as_object()) {
    PLEIAD_TRY(key, text(TrackedText(name, true)));
    PLEIAD_TRY(value, from_json(member, depth + 1));
    members.emplace_back(key, value);
  }
  return dict(std::move(members));
}

bool is_untrusted(const Value& value) {
  if (const TrackedText* text = value.text()) return text->any_untrusted();
  if (const Sequence* sequence = value.sequence()) return sequence->untrusted;
  if (const Dict* dict = value.dict()) return dict->untrusted;
  return value.untrusted_scalar;
}

std::string_view type_name(const Value& value) {
  if (value.is_undefined()) return "undefined";
  if (value.is_none()) return "None";
  if (value.is<bool>()) return "bool";
  if (value.is<std::int64_t>()) return "int";
  if (value.is<double>()) return "float";
  if (value.text() != nullptr) return "str";
  if (const Sequence* sequence = value.sequence()) {
    switch (sequence->kind) {
      case SequenceKind::List:
        return "list";
      case SequenceKind::Tuple:
        return "tuple";
      case SequenceKind::Range:
        return "range";
      case SequenceKind::View:
        return "dict view";
      case SequenceKind::Generator:
        return "generator";
    }
  }
  if (value.dict() != nullptr) return "dict";
  if (value.is<Namespace*>()) return "namespace";
  return value.is<const LoopState*>() ? "loop" : "function";
}

}  // namespace pleiad::text::detail
