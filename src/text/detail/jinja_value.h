#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/detail/tracked_text.h"

namespace pleiad::text::detail {

// Index of a variable's name in its template.
using NameId = std::uint32_t;

struct Sequence;
struct Dict;
struct Namespace;
struct Function;
struct LoopState;

// Nothing of this name; printing gives nothing, reaching into it is an error.
struct Undefined {
  const std::string* name = nullptr;  // for error texts; may be null
};

struct None {};

// A value of the template language, with Python's meaning. Cheap to copy; what it points to lives
// in a Heap (or in the template) until the rendering ends.
struct Value {
  using Content = std::variant<
      Undefined,
      None,
      bool,
      std::int64_t,
      double,
      const TrackedText*,
      Sequence*,
      const Dict*,
      Namespace*,
      const Function*,
      const LoopState*>;

  Content content;
  // For numbers and booleans: whether it came from the request. Text and containers know
  // themselves.
  bool untrusted_scalar = false;

  Value() = default;
  template <typename T>
  requires std::constructible_from<Content, T>
  Value(T held, bool untrusted = false)  // NOLINT: values are made from what they hold
      : content(held), untrusted_scalar(untrusted) {}

  template <typename T>
  [[nodiscard]] const T* get() const {
    return std::get_if<T>(&content);
  }
  template <typename T>
  [[nodiscard]] bool is() const {
    return std::holds_alternative<T>(content);
  }

  [[nodiscard]] const TrackedText* text() const { return pointer<const TrackedText>(); }
  [[nodiscard]] Sequence* sequence() const { return pointer<Sequence>(); }
  [[nodiscard]] const Dict* dict() const { return pointer<const Dict>(); }
  [[nodiscard]] bool is_undefined() const { return is<Undefined>(); }
  [[nodiscard]] bool is_none() const { return is<None>(); }

 private:
  template <typename T>
  [[nodiscard]] T* pointer() const {
    T* const* held = std::get_if<T*>(&content);
    return held == nullptr ? nullptr : *held;
  }
};

enum class SequenceKind {
  List,
  Tuple,
  Range,
  View,      // dict.keys(), values(), items()
  Generator  // gives its items once; always true; has no length
};

struct Sequence {
  SequenceKind kind = SequenceKind::List;
  std::vector<Value> items;
  std::size_t next = 0;  // of a Generator: the first item not given yet
  int depth = 1;         // of nested containers
  bool untrusted = false;
};

// Members in order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> members;
  int depth = 1;
  bool untrusted = false;
};

// The one thing a template can change.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

// Variables of one scope. A scope sees those around it.
struct Frame {
  const Frame* parent = nullptr;
  std::vector<std::pair<NameId, Value>> variables;

  void set(NameId name, Value value);
  [[nodiscard]] const Value* find(NameId name) const;
};

// The variable `loop` of a for statement.
struct LoopState {
  const std::vector<Value>* items = nullptr;
  std::size_t index = 0;
};

struct MacroNode;

enum class Global { Range, Namespace, Dict, RaiseException, StrftimeNow };

// A method of a value, called by name.
struct BoundMethod {
  Value self;
  std::string name;
};

struct MacroClosure {
  const MacroNode* macro = nullptr;
  const Frame* scope = nullptr;  // where the macro was defined
  Value caller;                  // unused but in call blocks
};

struct Function {
  std::variant<Global, BoundMethod, MacroClosure> target;
};

struct HeapLimits {
  std::size_t bytes_max = 256U << 20U;
  int depth_max = 200;  // of nested lists and dicts
};

// Owns everything one rendering makes; freed as one. Not thread-safe. Making something fails with
// InvalidInput when the rendering has used its memory or nests too deep.
class Heap {
 public:
  explicit Heap(const HeapLimits& limits) : limits_(limits) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  Result<Value> text(TrackedText text);
  Result<Value> text(std::string_view bytes) { return text(TrackedText(bytes)); }
  Result<Value> sequence(SequenceKind kind, std::vector<Value> items);
  Result<Value> list(std::vector<Value> items) {
    return sequence(SequenceKind::List, std::move(items));
  }
  Result<Value> dict(std::vector<std::pair<Value, Value>> members);
  Result<Value> function(Function function);
  Result<Namespace*> name_space();
  Result<Frame*> frame(const Frame* parent);
  Result<LoopState*> loop(const std::vector<Value>* items);

  // A value of the request. Strings are untrusted, and so are numbers.
  Result<Value> from_json(const Json& json, int depth = 0);

 private:
  Result<void> take(std::size_t bytes);

  HeapLimits limits_;
  std::size_t bytes_ = 0;
  std::deque<TrackedText> texts_;
  std::deque<Sequence> sequences_;
  std::deque<Dict> dicts_;
  std::deque<Namespace> namespaces_;
  std::deque<Function> functions_;
  std::deque<Frame> frames_;
  std::deque<LoopState> loops_;
};

// Whether any part of `value` came from the request.
bool is_untrusted(const Value& value);

// Python's name of the type, for error texts.
std::string_view type_name(const Value& value);

}  // namespace pleiad::text::detail
