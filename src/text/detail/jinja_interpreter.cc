#include "text/detail/jinja_interpreter.h"

#include <algorithm>
#include <utility>

#include "text/detail/jinja_format.h"

namespace pleiad::text::detail {

Result<TrackedText> Interpreter::run(const Frame& globals) {
  PLEIAD_TRY(frame, runtime_.heap().frame(&globals));
  return capture(parsed_.body, *frame);
}

Error Interpreter::too_deep() const {
  return invalid_input("the chat template nests calls deeper than {} levels", limits_.depth_max);
}

Result<void> Interpreter::check_output() const {
  if (out_->size() <= limits_.output_bytes_max) return {};
  return invalid_input("the chat template writes more than {} bytes", limits_.output_bytes_max);
}

Result<void> Interpreter::emit(const Value& value) {
  if (const TrackedText* text = value.text()) {
    out_->append(*text);
  } else {
    PLEIAD_TRY(printed, to_text(runtime_, value));
    out_->append(printed);
  }
  return check_output();
}

Result<TrackedText> Interpreter::capture(const Block& block, Frame& frame) {
  TrackedText captured;
  TrackedText* const outer = std::exchange(out_, &captured);
  auto flow = execute_block(block, frame);
  out_ = outer;
  if (!flow) return std::move(flow).error();
  PLEIAD_TRY(runtime_.spend_bytes(captured.size()));
  return captured;
}

Result<Interpreter::Flow> Interpreter::execute_block(const Block& block, Frame& frame) {
  const Nesting nesting(depth_);
  if (depth_ > limits_.depth_max) return too_deep();
  for (const auto& statement : block) {
    PLEIAD_TRY(runtime_.spend(1));
    auto flow = execute(*statement, frame);
    if (!flow.ok()) {
      // The innermost statement names its line; the template's own words stay as they are.
      const bool placed = raised_ || flow.error().message.starts_with("chat template line ");
      if (placed) return flow;
      return with_context(flow.error(), fmt::format("chat template line {}", statement->line));
    }
    if (*flow != Flow::Normal) return flow;
  }
  return Flow::Normal;
}

Result<Interpreter::Flow> Interpreter::execute(const Statement& statement, Frame& frame) {
  switch (statement.kind) {
    case StatementKind::Data:
      return go_on(execute_data(statement));
    case StatementKind::Output:
      return go_on(execute_output(statement, frame));
    case StatementKind::If:
      return execute_if(statement, frame);
    case StatementKind::For:
      return execute_for(statement, frame);
    case StatementKind::Set:
    case StatementKind::SetBlock:
      return go_on(execute_set(statement, frame));
    case StatementKind::Macro:
      return go_on(execute_macro(statement, frame));
    case StatementKind::CallBlock:
      return go_on(execute_call_block(statement, frame));
    case StatementKind::FilterBlock:
      return go_on(execute_filter_block(statement, frame));
    case StatementKind::With:
    case StatementKind::Scope:
      return execute_scope(statement, frame);
    case StatementKind::Break:
      return Flow::Break;
    case StatementKind::Continue:
      return Flow::Continue;
  }
  return Flow::Normal;
}

// Statements that do not leave a loop: the flow goes on unless they failed.
Result<Interpreter::Flow> Interpreter::go_on(Result<void> done) {
  if (!done) return std::move(done).error();
  return Flow::Normal;
}

Result<void> Interpreter::execute_data(const Statement& statement) {
  out_->append(statement.text, false);
  PLEIAD_TRY(runtime_.spend_bytes(statement.text.size()));
  return check_output();
}

Result<void> Interpreter::execute_output(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(value, evaluate(*statement.value, frame));
  return emit(value);
}

Result<Interpreter::Flow> Interpreter::execute_if(const Statement& statement, Frame& frame) {
  for (const Branch& branch : statement.branches) {
    PLEIAD_TRY(condition, evaluate(*branch.condition, frame));
    if (is_true(condition)) return execute_block(branch.body, frame);
  }
  return execute_block(statement.body, frame);
}

Result<std::vector<Value>> Interpreter::loop_items(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(iterable, evaluate(*statement.value, frame));
  PLEIAD_TRY(items, iterate(runtime_, iterable));
  if (!statement.condition) return std::move(items);
  PLEIAD_TRY(scope, runtime_.heap().frame(&frame));
  std::vector<Value> kept;
  for (const Value& item : items) {
    PLEIAD_TRY(runtime_.spend(1));
    PLEIAD_TRY(assign(statement.target, item, *scope));
    PLEIAD_TRY(condition, evaluate(*statement.condition, *scope));
    if (is_true(condition)) kept.push_back(item);
  }
  return kept;
}

Result<Interpreter::Flow> Interpreter::execute_for(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(items, loop_items(statement, frame));
  if (items.empty()) {
    PLEIAD_TRY(scope, runtime_.heap().frame(&frame));
    return execute_block(statement.other, *scope);
  }
  // The loop's own list outlives the statement: `loop` may be kept in a variable.
  PLEIAD_TRY(held, runtime_.heap().list(std::move(items)));
  const std::vector<Value>& list = held.sequence()->items;
  PLEIAD_TRY(loop, runtime_.heap().loop(&list));
  PLEIAD_TRY(scope, runtime_.heap().frame(&frame));
  const auto loop_name = id_of("loop");
  Flow flow = Flow::Normal;
  for (std::size_t i = 0; i < list.size() && flow != Flow::Break; ++i) {
    PLEIAD_TRY(runtime_.spend(1));
    scope->variables.clear();
    loop->index = i;
    const LoopState* state = loop;
    if (loop_name) scope->set(*loop_name, Value(state));
    PLEIAD_TRY(assign(statement.target, list[i], *scope));
    PLEIAD_TRY(ended, execute_block(statement.body, *scope));
    flow = ended;
  }
  return Flow::Normal;
}

Result<Interpreter::Flow> Interpreter::execute_scope(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(scope, runtime_.heap().frame(&frame));
  // The values of a with are those outside it.
  std::vector<Value> values;
  for (const auto& binding : statement.with) {
    PLEIAD_TRY(value, evaluate(*binding.second, frame));
    values.push_back(value);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    PLEIAD_TRY(assign(statement.with[i].first, values[i], *scope));
  }
  return execute_block(statement.body, *scope);
}

Result<void> Interpreter::execute_set(const Statement& statement, Frame& frame) {
  if (statement.kind == StatementKind::SetBlock) {
    PLEIAD_TRY(value, filtered_body(statement, frame));
    return assign(statement.target, value, frame);
  }
  PLEIAD_TRY(value, evaluate(*statement.value, frame));
  return assign(statement.target, value, frame);
}

// The text of the statement's body after its filters.
Result<Value> Interpreter::filtered_body(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(scope, runtime_.heap().frame(&frame));
  PLEIAD_TRY(captured, capture(statement.body, *scope));
  PLEIAD_TRY(text, runtime_.heap().text(std::move(captured)));
  if (!statement.value) return text;
  filter_input_ = text;
  return evaluate(*statement.value, frame);
}

Result<void> Interpreter::execute_filter_block(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(value, filtered_body(statement, frame));
  return emit(value);
}

Result<void> Interpreter::execute_macro(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(
      closure, runtime_.heap().function({MacroClosure{statement.macro.get(), &frame, Value()}})
  );
  frame.set(statement.macro->name_id, closure);
  return {};
}

Result<void> Interpreter::execute_call_block(const Statement& statement, Frame& frame) {
  PLEIAD_TRY(
      caller, runtime_.heap().function({MacroClosure{statement.macro.get(), &frame, Value()}})
  );
  PLEIAD_TRY(value, evaluate_call(*statement.value, frame, caller));
  return emit(value);
}

Result<void> Interpreter::assign(const Target& target, const Value& value, Frame& frame) {
  if (!target.attribute.empty()) {
    const Value* held = frame.find(target.name);
    const auto* space = held == nullptr ? nullptr : held->get<Namespace*>();
    if (space == nullptr) {
      return invalid_input("'{}' is no namespace to assign to", parsed_.names[target.name]);
    }
    for (auto& [name, attribute] : (*space)->attributes) {
      if (name != target.attribute) continue;
      attribute = value;
      return {};
    }
    (*space)->attributes.emplace_back(target.attribute, value);
    return {};
  }
  if (target.parts.empty()) {
    frame.set(target.name, value);
    return {};
  }
  if (value.is_undefined()) return undefined_error(value);
  PLEIAD_TRY(items, iterate(runtime_, value));
  if (items.size() != target.parts.size()) {
    return invalid_input("{} values to unpack into {} names", items.size(), target.parts.size());
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    PLEIAD_TRY(assign(target.parts[i], items[i], frame));
  }
  return {};
}

std::optional<NameId> Interpreter::id_of(std::string_view name) const {
  const auto found = std::find(parsed_.names.begin(), parsed_.names.end(), name);
  if (found == parsed_.names.end()) return std::nullopt;
  return static_cast<NameId>(found - parsed_.names.begin());
}

}  // namespace pleiad::text::detail
