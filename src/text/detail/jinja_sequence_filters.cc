// Filters on lists, dicts and anything one can iterate over.
#include <algorithm>
#include <array>
#include <charconv>

#include "text/detail/jinja_attributes.h"
#include "text/detail/jinja_filters.h"
#include "text/detail/jinja_format.h"
#include "text/detail/jinja_operators.h"
#include "text/detail/jinja_tests.h"

namespace pleiad::text::detail {
namespace {

Result<Value> fold_case(Runtime& runtime, const Value& value) {
  if (value.text() == nullptr) return value;
  return lower(runtime, *value.text());
}

bool flag(const Value* argument) {
  return argument != nullptr && is_true(*argument);
}

// What an attribute argument leads to: "a.b.0" is followed part by part; absent, the item itself.
Result<Value> follow(Runtime& runtime, Value value, const Value* path) {
  if (path == nullptr || path->is_none()) return value;
  if (path->text() == nullptr) return item(runtime, value, *path);
  std::string_view rest = path->text()->bytes();
  while (true) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    std::int64_t index = 0;
    const char* end = part.data() + part.size();
    const auto read = std::from_chars(part.data(), end, index);
    if (!part.empty() && read.ec == std::errc{} && read.ptr == end && index >= 0) {
      PLEIAD_TRY(next, item(runtime, value, Value(index)));
      value = next;
    } else {
      PLEIAD_TRY(next, subscript(runtime, value, part));
      value = next;
    }
    if (dot == std::string_view::npos) return value;
    rest.remove_prefix(dot + 1);
  }
}

struct Keyed {
  Value key;
  Value value;
};

// Sorts by key, keeping the order of equals; the first failing comparison is the answer.
Result<std::vector<Value>> sort_by_key(Runtime& runtime, std::vector<Keyed> entries, bool reverse) {
  std::optional<Error> failure;
  std::stable_sort(entries.begin(), entries.end(), [&](const Keyed& a, const Keyed& b) {
    if (failure) return false;
    auto before = reverse ? less(runtime, b.key, a.key) : less(runtime, a.key, b.key);
    if (before.ok()) return *before;
    failure = before.error();
    return false;
  });
  if (failure) return *failure;
  std::vector<Value> sorted;
  sorted.reserve(entries.size());
  for (const Keyed& entry : entries) {
    sorted.push_back(entry.value);
  }
  return sorted;
}

Result<std::vector<Keyed>>
keyed_by(Runtime& runtime, const Value& value, const Value* path, bool case_sensitive) {
  PLEIAD_TRY(items, iterate(runtime, value));
  std::vector<Keyed> entries;
  for (const Value& held : items) {
    PLEIAD_TRY(key, follow(runtime, held, path));
    if (!case_sensitive) {
      PLEIAD_TRY(folded, fold_case(runtime, key));
      key = folded;
    }
    entries.push_back({key, held});
  }
  return entries;
}

Result<Value> filter_length(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'length'", {}));
  if (value.text() != nullptr) {
    PLEIAD_TRY(runtime.spend_bytes(value.text()->size()));
  }
  PLEIAD_TRY(count, length(value));
  return Value(count);
}

Result<Value> filter_default(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'default'", {"default_value", "boolean"}));
  const bool replaced = value.is_undefined() || (flag(bound[1]) && !is_true(value));
  if (!replaced) return value;
  return bound[0] == nullptr ? runtime.heap().text("") : Result<Value>(*bound[0]);
}

Result<Value> filter_first(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'first'", {}));
  Sequence* sequence = value.sequence();
  if (sequence != nullptr && sequence->kind == SequenceKind::Generator) {
    // Takes just one: the rest is still there for others.
    const bool any = sequence->next < sequence->items.size();
    return any ? sequence->items[sequence->next++] : Value();
  }
  PLEIAD_TRY(items, iterate(runtime, value));
  return items.empty() ? Value() : items.front();
}

Result<Value> filter_last(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'last'", {}));
  const Sequence* sequence = value.sequence();
  if (sequence != nullptr && sequence->kind == SequenceKind::Generator) {
    return invalid_input("filter 'last': an iterator cannot be reversed");
  }
  PLEIAD_TRY(items, iterate(runtime, value));
  return items.empty() ? Value() : items.back();
}

Result<Value> filter_list(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'list'", {}));
  PLEIAD_TRY(items, iterate(runtime, value));
  return runtime.heap().list(std::move(items));
}

Result<Value> filter_join(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'join'", {"d", "attribute"}));
  PLEIAD_TRY(items, iterate(runtime, value));
  for (Value& held : items) {
    PLEIAD_TRY(found, follow(runtime, held, bound[1]));
    held = found;
  }
  TrackedText separator;
  if (bound[0] != nullptr) {
    PLEIAD_TRY(text, to_text(runtime, *bound[0]));
    separator = std::move(text);
  }
  return join(runtime, separator, items);
}

Result<Value> filter_reverse(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'reverse'", {}));
  if (value.text() != nullptr) return slice(runtime, value, {.begin = {}, .end = {}, .step = -1});
  PLEIAD_TRY(items, iterate(runtime, value));
  std::reverse(items.begin(), items.end());
  return runtime.heap().sequence(SequenceKind::Generator, std::move(items));
}

Result<Value> filter_sort(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'sort'", {"reverse", "case_sensitive", "attribute"}));
  PLEIAD_TRY(entries, keyed_by(runtime, value, bound[2], flag(bound[1])));
  PLEIAD_TRY(sorted, sort_by_key(runtime, std::move(entries), flag(bound[0])));
  return runtime.heap().list(std::move(sorted));
}

Result<Value> filter_unique(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'unique'", {"case_sensitive", "attribute"}));
  PLEIAD_TRY(entries, keyed_by(runtime, value, bound[1], flag(bound[0])));
  std::vector<Value> seen;
  std::vector<Value> items;
  for (const Keyed& entry : entries) {
    bool known = false;
    for (const Value& key : seen) {
      PLEIAD_TRY(same, equals(runtime, key, entry.key));
      known = known || same;
    }
    if (known) continue;
    seen.push_back(entry.key);
    items.push_back(entry.value);
  }
  return runtime.heap().sequence(SequenceKind::Generator, std::move(items));
}

Result<Value>
extreme(Runtime& runtime, const Value& value, const Arguments& arguments, bool wants_max) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'min' or 'max'", {"case_sensitive", "attribute"}));
  PLEIAD_TRY(entries, keyed_by(runtime, value, bound[1], flag(bound[0])));
  if (entries.empty()) return Value();
  const Keyed* best = entries.data();
  for (const Keyed& entry : entries) {
    PLEIAD_TRY(
        better,
        wants_max ? less(runtime, best->key, entry.key) : less(runtime, entry.key, best->key)
    );
    if (better) best = &entry;
  }
  return best->value;
}

Result<Value> filter_min(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return extreme(runtime, value, arguments, false);
}

Result<Value> filter_max(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return extreme(runtime, value, arguments, true);
}

Result<Value> filter_sum(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'sum'", {"attribute", "start"}));
  PLEIAD_TRY(items, iterate(runtime, value));
  Value total = bound[1] == nullptr ? Value(std::int64_t{0}) : *bound[1];
  for (const Value& held : items) {
    PLEIAD_TRY(amount, follow(runtime, held, bound[0]));
    PLEIAD_TRY(next, binary(runtime, BinaryOperation::Add, total, amount));
    total = next;
  }
  return total;
}

Result<std::vector<Value>> member_pairs(Runtime& runtime, const Dict& dict) {
  std::vector<Value> pairs;
  PLEIAD_TRY(runtime.spend(dict.members.size()));
  for (const auto& [key, held] : dict.members) {
    PLEIAD_TRY(pair, runtime.heap().sequence(SequenceKind::Tuple, {key, held}));
    pairs.push_back(pair);
  }
  return pairs;
}

Result<Value> filter_items(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'items'", {}));
  if (value.is_undefined()) return runtime.heap().sequence(SequenceKind::Generator, {});
  if (value.dict() == nullptr) return invalid_input("filter 'items' wants a mapping");
  PLEIAD_TRY(pairs, member_pairs(runtime, *value.dict()));
  return runtime.heap().sequence(SequenceKind::Generator, std::move(pairs));
}

Result<Value> filter_dictsort(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'dictsort'", {"case_sensitive", "by", "reverse"}));
  if (value.dict() == nullptr) return invalid_input("filter 'dictsort' wants a mapping");
  const std::string by =
      bound[1] != nullptr && bound[1]->text() != nullptr ? bound[1]->text()->bytes() : "key";
  if (by != "key" && by != "value") return invalid_input("filter 'dictsort' by '{}'", by);
  PLEIAD_TRY(pairs, member_pairs(runtime, *value.dict()));
  std::vector<Keyed> entries;
  for (const Value& pair : pairs) {
    Value key = pair.sequence()->items[by == "key" ? 0 : 1];
    if (!flag(bound[0])) {
      PLEIAD_TRY(folded, fold_case(runtime, key));
      key = folded;
    }
    entries.push_back({key, pair});
  }
  PLEIAD_TRY(sorted, sort_by_key(runtime, std::move(entries), flag(bound[2])));
  return runtime.heap().list(std::move(sorted));
}

// The arguments behind the first `count` positional ones.
Arguments rest_of(const Arguments& arguments, std::size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(
      rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(count)
  );
  return rest;
}

Result<Value> filter_map(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(items, iterate(runtime, value));
  if (arguments.positional.empty()) {
    PLEIAD_TRY(bound, bind(arguments, "filter 'map'", {"attribute", "default"}, 1));
    for (Value& held : items) {
      PLEIAD_TRY(found, follow(runtime, held, bound[0]));
      held = found.is_undefined() && bound[1] != nullptr ? *bound[1] : found;
    }
    return runtime.heap().sequence(SequenceKind::Generator, std::move(items));
  }
  const TrackedText* name = arguments.positional[0].text();
  const FilterEntry* filter = name == nullptr ? nullptr : find_filter(name->bytes());
  if (filter == nullptr) {
    return unsupported("filter 'map' with the filter '{}'", name == nullptr ? "?" : name->bytes());
  }
  const Arguments rest = rest_of(arguments, 1);
  for (Value& held : items) {
    PLEIAD_TRY(runtime.spend(1));
    PLEIAD_TRY(mapped, filter->apply(runtime, held, rest));
    held = mapped;
  }
  return runtime.heap().sequence(SequenceKind::Generator, std::move(items));
}

struct Selection {
  bool by_attribute = false;  // the first argument names an attribute
  bool keeps = true;          // what passes the test stays
};

// The test named by the argument at `place`, or null when there is no such argument.
Result<const TestEntry*> test_at(const Arguments& arguments, std::size_t place) {
  if (arguments.positional.size() <= place) return static_cast<const TestEntry*>(nullptr);
  const TrackedText* name = arguments.positional[place].text();
  const TestEntry* test = name == nullptr ? nullptr : find_test(name->bytes());
  if (test != nullptr) return test;
  return unsupported("selecting by the test '{}'", name == nullptr ? "?" : name->bytes());
}

Result<Value> choose(
    Runtime& runtime,
    const Value& value,
    const Arguments& arguments,
    const Selection& selection
) {
  const std::size_t skipped = selection.by_attribute ? 1 : 0;
  if (arguments.positional.size() < skipped) return invalid_input("missing attribute to select by");
  const Value* path = selection.by_attribute ? arguments.positional.data() : nullptr;
  PLEIAD_TRY(test, test_at(arguments, skipped));
  const Arguments rest = rest_of(arguments, test == nullptr ? skipped : skipped + 1);
  PLEIAD_TRY(items, iterate(runtime, value));
  std::vector<Value> kept;
  for (const Value& held : items) {
    PLEIAD_TRY(runtime.spend(1));
    PLEIAD_TRY(subject, follow(runtime, held, path));
    const Result<bool> passes =
        test == nullptr ? is_true(subject) : test->holds(runtime, subject, rest);
    if (!passes) return passes.error();
    if (*passes == selection.keeps) kept.push_back(held);
  }
  return runtime.heap().sequence(SequenceKind::Generator, std::move(kept));
}

Result<Value> filter_select(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return choose(runtime, value, arguments, {.by_attribute = false, .keeps = true});
}

Result<Value> filter_reject(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return choose(runtime, value, arguments, {.by_attribute = false, .keeps = false});
}

Result<Value> filter_selectattr(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return choose(runtime, value, arguments, {.by_attribute = true, .keeps = true});
}

Result<Value> filter_rejectattr(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return choose(runtime, value, arguments, {.by_attribute = true, .keeps = false});
}

constexpr std::array<FilterEntry, 21> kFilters = {{
    {"length", filter_length},
    {"count", filter_length},
    {"default", filter_default},
    {"d", filter_default},
    {"first", filter_first},
    {"last", filter_last},
    {"list", filter_list},
    {"join", filter_join},
    {"reverse", filter_reverse},
    {"sort", filter_sort},
    {"unique", filter_unique},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"items", filter_items},
    {"dictsort", filter_dictsort},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
}};

}  // namespace

const FilterEntry* find_sequence_filter(std::string_view name) {
  const auto* const found = std::find_if(
      kFilters.begin(), kFilters.end(), [&](const FilterEntry& entry) { return entry.name == name; }
  );
  return found == kFilters.end() ? nullptr : found;
}

}  // namespace pleiad::text::detail
