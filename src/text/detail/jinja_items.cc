// Reaching into values: iteration, members, items and slices.
#include <algorithm>

#include "text/detail/jinja_operators.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

// Lookups compare keys one by one; this pays for the long ones.
constexpr std::size_t kKeysPerStep = 8;

Result<std::vector<Value>> characters(Runtime& runtime, const TrackedText& text) {
  const std::vector<std::size_t> starts = character_starts(text.bytes());
  PLEIAD_TRY(runtime.spend(starts.size()));
  std::vector<Value> items;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    PLEIAD_TRY(one, runtime.heap().text(text.slice({starts[i], starts[i + 1]})));
    items.push_back(one);
  }
  return items;
}

// The indices that a slice of `size` items takes, in order (Python's slice.indices()).
std::vector<std::size_t> indices_of(const SliceBounds& bounds, std::int64_t size) {
  const std::int64_t step = bounds.step.value_or(1);
  const bool forward = step > 0;
  const auto clamp = [&](std::int64_t at) {
    if (at < 0) at = std::max(at + size, forward ? std::int64_t{0} : std::int64_t{-1});
    return std::min(at, forward ? size : size - 1);
  };
  std::int64_t at = bounds.begin ? clamp(*bounds.begin) : (forward ? 0 : size - 1);
  const std::int64_t end = bounds.end ? clamp(*bounds.end) : (forward ? size : -1);
  std::vector<std::size_t> indices;
  while (forward ? at < end : at > end) {
    indices.push_back(static_cast<std::size_t>(at));
    // Steps beyond the size end the walk without overflowing.
    at += forward ? std::min(step, size + 1) : std::max(step, -size - 1);
  }
  return indices;
}

std::optional<std::size_t> resolve(std::int64_t index, std::size_t size) {
  const auto count = static_cast<std::int64_t>(size);
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  return static_cast<std::size_t>(index);
}

Result<Value> slice_text(Runtime& runtime, const TrackedText& text, const SliceBounds& bounds) {
  PLEIAD_TRY(runtime.spend_bytes(text.size()));
  const std::vector<std::size_t> starts = character_starts(text.bytes());
  const auto indices = indices_of(bounds, static_cast<std::int64_t>(starts.size()) - 1);
  if (indices.empty()) return runtime.heap().text("");
  if (bounds.step.value_or(1) == 1) {
    return runtime.heap().text(text.slice({starts[indices.front()], starts[indices.back() + 1]}));
  }
  PLEIAD_TRY(runtime.spend(indices.size()));
  TrackedText out;
  for (const std::size_t i : indices) {
    out.append(text, {starts[i], starts[i + 1]});
  }
  return runtime.heap().text(std::move(out));
}

}  // namespace

Result<std::vector<Value>> iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (const TrackedText* text = value.text()) return characters(runtime, *text);
  if (const Dict* dict = value.dict()) {
    PLEIAD_TRY(runtime.spend(dict->members.size() / kKeysPerStep));
    items.reserve(dict->members.size());
    for (const auto& member : dict->members) {
      items.push_back(member.first);
    }
    return items;
  }
  Sequence* sequence = value.sequence();
  if (sequence == nullptr) return invalid_input("'{}' is not iterable", type_name(value));
  PLEIAD_TRY(runtime.spend(sequence->items.size() / kKeysPerStep));
  if (sequence->kind != SequenceKind::Generator) return sequence->items;
  items.assign(
      sequence->items.begin() + static_cast<std::ptrdiff_t>(sequence->next), sequence->items.end()
  );
  sequence->next = sequence->items.size();
  return items;
}

Result<const Value*> find_member(Runtime& runtime, const Dict& dict, std::string_view key) {
  PLEIAD_TRY(runtime.spend(1 + dict.members.size() / kKeysPerStep));
  for (const auto& [name, value] : dict.members) {
    const TrackedText* text = name.text();
    if (text != nullptr && text->bytes() == key) return &value;
  }
  return static_cast<const Value*>(nullptr);
}

Result<const Value*> find_member(Runtime& runtime, const Dict& dict, const Value& key) {
  if (const TrackedText* text = key.text()) return find_member(runtime, dict, text->bytes());
  const Sequence* sequence = key.sequence();
  const bool hashable = key.dict() == nullptr && key.get<Namespace*>() == nullptr &&
                        (sequence == nullptr || sequence->kind != SequenceKind::List);
  if (!hashable) return invalid_input("unhashable type: '{}'", type_name(key));
  for (const auto& [name, value] : dict.members) {
    PLEIAD_TRY(same, equals(runtime, name, key));
    if (same) return &value;
  }
  return static_cast<const Value*>(nullptr);
}

Result<void> put_member(Runtime& runtime, Dict& dict, const Value& key, const Value& value) {
  PLEIAD_TRY(known, find_member(runtime, dict, key));
  if (known == nullptr) {
    dict.members.emplace_back(key, value);
    return {};
  }
  for (auto& member : dict.members) {
    if (&member.second == known) member.second = value;
  }
  return {};
}

Result<Value> item(Runtime& runtime, const Value& value, const Value& index) {
  if (value.is_undefined()) return undefined_error(value);
  if (const Dict* dict = value.dict()) {
    const Sequence* list = index.sequence();
    // Python's "unhashable" becomes an undefined item.
    if (index.dict() != nullptr || (list != nullptr && list->kind == SequenceKind::List)) {
      return Value();
    }
    PLEIAD_TRY(member, find_member(runtime, *dict, index));
    return member == nullptr ? Value() : *member;
  }
  const auto number = number_of(index);
  if (!number || number->is_float) return Value();
  if (const TrackedText* text = value.text()) {
    PLEIAD_TRY(runtime.spend_bytes(text->size()));
    const std::vector<std::size_t> starts = character_starts(text->bytes());
    const auto at = resolve(number->whole, starts.size() - 1);
    if (!at) return Value();
    return runtime.heap().text(text->slice({starts[*at], starts[*at + 1]}));
  }
  const Sequence* sequence = value.sequence();
  const bool indexable = sequence != nullptr && sequence->kind != SequenceKind::Generator &&
                         sequence->kind != SequenceKind::View;
  if (!indexable) return Value();
  const auto at = resolve(number->whole, sequence->items.size());
  return at ? sequence->items[*at] : Value();
}

Result<Value> slice(Runtime& runtime, const Value& value, const SliceBounds& bounds) {
  if (value.is_undefined()) return undefined_error(value);
  if (bounds.step == 0) return invalid_input("slice step cannot be zero");
  if (const TrackedText* text = value.text()) return slice_text(runtime, *text, bounds);
  const Sequence* sequence = value.sequence();
  const bool sliceable = sequence != nullptr && sequence->kind != SequenceKind::Generator &&
                         sequence->kind != SequenceKind::View;
  if (!sliceable) return Value();
  const auto indices = indices_of(bounds, static_cast<std::int64_t>(sequence->items.size()));
  std::vector<Value> items;
  items.reserve(indices.size());
  PLEIAD_TRY(runtime.spend(indices.size() / kKeysPerStep));
  for (const std::size_t i : indices) {
    items.push_back(sequence->items[i]);
  }
  return runtime.heap().sequence(sequence->kind, std::move(items));
}

}  // namespace pleiad::text::detail
