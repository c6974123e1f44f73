#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/text_range.h"

namespace pleiad::text {

// What one rendering may use up. Work is counted, not timed: the same request always ends the same
// way.
struct RenderLimits {
  std::size_t steps_max = 4'000'000;
  std::size_t output_bytes_max = 32U << 20U;
  std::size_t memory_bytes_max = 256U << 20U;
  int depth_max = 600;  // of evaluation; a macro that calls itself takes about four levels a call
};

// What a conversation is rendered from. Borrowed for the call.
struct RenderInput {
  Json messages = JsonArray{};
  Json tools = {};  // an array, or null for none
  bool add_generation_prompt = true;
  Json extra = JsonObject{};  // variables from the request, such as enable_thinking
  std::optional<std::string> bos_token = std::nullopt;  // absent: undefined in the template
  std::optional<std::string> eos_token = std::nullopt;
  std::chrono::sys_seconds date = {};  // what strftime_now() prints
  RenderLimits limits = {};
};

struct RenderedPrompt {
  std::string text;
  // The bytes that came from the request, sorted and disjoint: Tokenizer::encode() keeps control
  // tokens typed there as text. Text made from request values whose parts cannot be told apart
  // (JSON, printed lists) is marked whole.
  std::vector<TextRange> untrusted = {};
};

// A chat template: the part of Jinja 3 that published templates use, with the meaning it has under
// Hugging Face's settings (trim_blocks, lstrip_blocks, loop controls, immutable sandbox, plain
// tojson). There is no access to anything but the values given, and nothing that is not listed
// below.
//   Tags: if elif else, for (else, if, break, continue), set (block, namespace, tuple), macro,
//   call, filter, with, raw, generation, autoescape false. Functions: range, namespace, dict,
//   raise_exception, strftime_now. Filters, tests and methods: the tables in detail/jinja_*.cc.
// Immutable: any thread may render, several at once.
class ChatTemplate {
 public:
  // Fails with InvalidInput or Unsupported, naming the line and the construct.
  static Result<ChatTemplate> compile(std::string_view source);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Fails with InvalidInput when the template refuses the conversation (raise_exception: its own
  // words), when it stumbles (the line is named), when a limit is passed, or when `extra` would
  // replace a variable of ours.
  [[nodiscard]] Result<RenderedPrompt> render(const RenderInput& input) const;

 private:
  struct Parts;
  explicit ChatTemplate(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace pleiad::text
