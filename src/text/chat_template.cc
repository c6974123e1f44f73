#include "text/chat_template.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "text/detail/jinja_interpreter.h"
#include "text/detail/jinja_parser.h"

namespace pleiad::text {
namespace {

using detail::Frame;
using detail::Runtime;
using detail::TrackedText;
using detail::Value;

// Variables that the request may not set for itself.
constexpr std::array<std::string_view, 14> kReserved = {
    "messages",
    "tools",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "raise_exception",
    "strftime_now",
    "range",
    "namespace",
    "dict",
    "loop",
    "caller",
};

// Role names that templates put inside control tokens. Being plain words they cannot smuggle one
// in, so they count as ours.
constexpr std::array<std::string_view, 8> kPlainRoles =
    {"system", "developer", "user", "assistant", "tool", "function", "ipython", "observation"};

constexpr std::array<std::pair<std::string_view, detail::Global>, 5> kGlobals = {{
    {"range", detail::Global::Range},
    {"namespace", detail::Global::Namespace},
    {"dict", detail::Global::Dict},
    {"raise_exception", detail::Global::RaiseException},
    {"strftime_now", detail::Global::StrftimeNow},
}};

bool is_well_formed(const Json& json) {
  if (const std::string* text = json.as_string()) return is_valid_utf8(*text);
  if (const JsonArray* items = json.as_array()) {
    return std::all_of(items->begin(), items->end(), is_well_formed);
  }
  const JsonObject* members = json.as_object();
  return members == nullptr ||
         std::all_of(members->begin(), members->end(), [](const auto& member) {
           return is_valid_utf8(member.first) && is_well_formed(member.second);
         });
}

// A message, with a well-known role as trusted text.
Result<Value> message_value(Runtime& runtime, const Json& message) {
  PLEIAD_TRY(value, runtime.heap().from_json(message));
  const detail::Dict* dict = value.dict();
  if (dict == nullptr) return value;
  auto members = dict->members;
  for (auto& [key, held] : members) {
    const TrackedText* text = held.text();
    const bool is_role =
        text != nullptr && key.text()->bytes() == "role" &&
        std::find(kPlainRoles.begin(), kPlainRoles.end(), text->bytes()) != kPlainRoles.end();
    if (!is_role) continue;
    PLEIAD_TRY(trusted, runtime.heap().text(text->bytes()));
    held = trusted;
  }
  return runtime.heap().dict(std::move(members));
}

Result<Value> messages_value(Runtime& runtime, const Json& messages) {
  if (messages.as_array() == nullptr) {
    return invalid_input("messages must be an array, not {}", messages.type_name());
  }
  std::vector<Value> items;
  for (const Json& message : *messages.as_array()) {
    PLEIAD_TRY(value, message_value(runtime, message));
    items.push_back(value);
  }
  return runtime.heap().list(std::move(items));
}

Result<void> check_input(const RenderInput& input) {
  if (!input.extra.is_null() && !input.extra.is_object()) {
    return invalid_input("template variables must be an object, not {}", input.extra.type_name());
  }
  const JsonObject* extra = input.extra.as_object();
  for (std::size_t i = 0; extra != nullptr && i < extra->size(); ++i) {
    const std::string& name = (*extra)[i].first;
    if (std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end()) {
      return invalid_input("template variable '{}' is reserved", name);
    }
  }
  if (!is_well_formed(input.messages) || !is_well_formed(input.tools) ||
      !is_well_formed(input.extra)) {
    return invalid_input("the conversation is not well-formed UTF-8");
  }
  return {};
}

}  // namespace

struct ChatTemplate::Parts {
  detail::ParsedTemplate parsed;

  // Binds `name` unless the template never mentions it.
  void set(Frame& frame, std::string_view name, const Value& value) const {
    const auto found = std::find(parsed.names.begin(), parsed.names.end(), name);
    if (found == parsed.names.end()) return;
    frame.set(static_cast<detail::NameId>(found - parsed.names.begin()), value);
  }

  Result<void> bind(const RenderInput& input, Runtime& runtime, Frame& frame) const;
};

Result<void> ChatTemplate::Parts::bind(const RenderInput& input, Runtime& runtime, Frame& frame)
    const {
  detail::Heap& heap = runtime.heap();
  for (const auto& [name, global] : kGlobals) {
    PLEIAD_TRY(function, heap.function({global}));
    set(frame, name, function);
  }
  PLEIAD_TRY(messages, messages_value(runtime, input.messages));
  PLEIAD_TRY(tools, heap.from_json(input.tools));
  set(frame, "messages", messages);
  set(frame, "tools", tools);
  set(frame, "documents", Value(detail::None{}));
  set(frame, "add_generation_prompt", Value(input.add_generation_prompt));
  const auto set_token = [&](std::string_view name,
                             const std::optional<std::string>& token) -> Result<void> {
    if (!token) return {};
    PLEIAD_TRY(text, heap.text(*token));
    set(frame, name, text);
    return {};
  };
  PLEIAD_TRY(set_token("bos_token", input.bos_token));
  PLEIAD_TRY(set_token("eos_token", input.eos_token));
  const JsonObject* extra = input.extra.as_object();
  for (std::size_t i = 0; extra != nullptr && i < extra->size(); ++i) {
    PLEIAD_TRY(value, heap.from_json((*extra)[i].second));
    set(frame, (*extra)[i].first, value);
  }
  return {};
}

ChatTemplate::ChatTemplate(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::compile(std::string_view source) {
  auto parts = std::make_unique<Parts>();
  PLEIAD_TRY(parsed, detail::parse_template(source));
  parts->parsed = std::move(parsed);
  return ChatTemplate(std::move(parts));
}

Result<RenderedPrompt> ChatTemplate::render(const RenderInput& input) const {
  PLEIAD_TRY(check_input(input));
  Runtime runtime(input.limits.steps_max, {.bytes_max = input.limits.memory_bytes_max});
  Frame globals;
  PLEIAD_TRY(parts_->bind(input, runtime, globals));
  detail::Interpreter interpreter(
      parts_->parsed,
      runtime,
      {.output_bytes_max = input.limits.output_bytes_max, .depth_max = input.limits.depth_max},
      input.date
  );
  PLEIAD_TRY(text, interpreter.run(globals));
  return RenderedPrompt{text.bytes(), text.untrusted()};
}

}  // namespace pleiad::text
