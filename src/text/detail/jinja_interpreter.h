#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "base/result.h"
#include "text/detail/jinja_ast.h"
#include "text/detail/jinja_operators.h"
#include "text/detail/jinja_runtime.h"

namespace pleiad::text::detail {

struct InterpreterLimits {
  std::size_t output_bytes_max = 0;
  int depth_max = 0;
};

// Walks a parsed template once. Not thread-safe; borrows everything it is given.
class Interpreter {
 public:
  Interpreter(
      const ParsedTemplate& parsed,
      Runtime& runtime,
      const InterpreterLimits& limits,
      std::chrono::sys_seconds date
  )
      : parsed_(parsed), runtime_(runtime), limits_(limits), date_(date) {}

  // The text of the whole template, its variables looked up in `globals`.
  Result<TrackedText> run(const Frame& globals);

 private:
  enum class Flow { Normal, Break, Continue };

  // Counts nesting of blocks and expressions for as long as it lives: each takes stack.
  class Nesting {
   public:
    explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int& depth_;
  };

  [[nodiscard]] Error too_deep() const;

  // Statements, in jinja_interpreter.cc.
  Result<Flow> execute_block(const Block& block, Frame& frame);
  Result<Flow> execute(const Statement& statement, Frame& frame);
  static Result<Flow> go_on(Result<void> done);
  Result<void> execute_data(const Statement& statement);
  Result<void> execute_output(const Statement& statement, Frame& frame);
  Result<Flow> execute_if(const Statement& statement, Frame& frame);
  Result<Flow> execute_for(const Statement& statement, Frame& frame);
  Result<Flow> execute_scope(const Statement& statement, Frame& frame);
  Result<void> execute_set(const Statement& statement, Frame& frame);
  Result<void> execute_macro(const Statement& statement, Frame& frame);
  Result<void> execute_call_block(const Statement& statement, Frame& frame);
  Result<void> execute_filter_block(const Statement& statement, Frame& frame);
  Result<Value> filtered_body(const Statement& statement, Frame& frame);
  Result<std::vector<Value>> loop_items(const Statement& statement, Frame& frame);
  Result<void> assign(const Target& target, const Value& value, Frame& frame);
  Result<TrackedText> capture(const Block& block, Frame& frame);
  Result<void> emit(const Value& value);
  Result<void> check_output() const;

  // Expressions, in jinja_evaluate.cc.
  Result<Value> evaluate(const Expression& expression, Frame& frame);
  Result<Value> evaluate_kind(const Expression& expression, Frame& frame);
  Result<Value> evaluate_name(const Expression& expression, const Frame& frame) const;
  Result<Value> evaluate_items(const Expression& expression, Frame& frame);
  Result<Value> evaluate_dict(const Expression& expression, Frame& frame);
  Result<Value> evaluate_attribute(const Expression& expression, Frame& frame);
  Result<Value> evaluate_item(const Expression& expression, Frame& frame);
  Result<Value> evaluate_slice(const Expression& expression, Frame& frame);
  Result<Value> evaluate_call(const Expression& expression, Frame& frame, const Value& caller);
  Result<Value> evaluate_filter(const Expression& expression, Frame& frame);
  Result<Value> evaluate_test(const Expression& expression, Frame& frame);
  Result<Value> evaluate_logic(const Expression& expression, Frame& frame);
  Result<Value> evaluate_unary(const Expression& expression, Frame& frame);
  Result<Value> evaluate_binary(const Expression& expression, Frame& frame);
  Result<Value> evaluate_concat(const Expression& expression, Frame& frame);
  Result<Value> evaluate_compare(const Expression& expression, Frame& frame);
  Result<Value> evaluate_conditional(const Expression& expression, Frame& frame);
  Result<void> spread(const Value& value, Arguments& arguments);
  Result<Arguments> evaluate_arguments(const std::vector<ArgumentNode>& nodes, Frame& frame);

  // Calls, in jinja_calls.cc.
  Result<Value> call(const Value& callee, const Arguments& arguments, const Value& caller);
  Result<Value>
  call_macro(const MacroClosure& closure, const Arguments& arguments, const Value& caller);
  Result<void> bind_macro(const MacroNode& macro, const Arguments& arguments, Frame& frame);
  Result<void> bind_surplus(
      const MacroNode& macro,
      const Arguments& arguments,
      const std::vector<bool>& used,
      Frame& frame
  );
  Result<Value> call_global(Global global, const Arguments& arguments);
  Result<Value> make_range(const Arguments& arguments);
  Result<Value> make_namespace(const Arguments& arguments);
  Result<void> add_members(Dict& dict, const Value& source);
  Result<Value> make_dict(const Arguments& arguments);

  [[nodiscard]] std::optional<NameId> id_of(std::string_view name) const;

  const ParsedTemplate& parsed_;
  Runtime& runtime_;
  InterpreterLimits limits_;
  std::chrono::sys_seconds date_;
  TrackedText* out_ = nullptr;  // where output goes: the prompt, or what is being captured
  int depth_ = 0;
  Value filter_input_;   // what the filter chain of a block is applied to
  bool raised_ = false;  // the error is the template's own words
};

// strftime() for the conversions that templates use. Unsupported names any other.
Result<std::string> format_date(std::string_view format, std::chrono::sys_seconds date);

}  // namespace pleiad::text::detail
