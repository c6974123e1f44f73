#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "text/chat_template.h"

namespace pleiad::text {

// What `source` renders to, or why it does not: "!" and the error's words. The members of
// `variables` (a JSON object) are what the request brings.
inline std::string render(std::string_view source, std::string_view variables = "{}") {
  const auto compiled = ChatTemplate::compile(source);
  if (!compiled.ok()) return "!" + compiled.error().message;
  RenderInput input;
  input.extra = *parse_json(variables);
  const auto prompt = compiled->render(input);
  return prompt.ok() ? prompt->text : "!" + prompt.error().message;
}

// The same with the bytes that came from the request in brackets: what "{{ x }}" gives for "a" is
// "[a]".
inline std::string marked(std::string_view source, std::string_view variables = "{}") {
  RenderInput input;
  input.extra = *parse_json(variables);
  const auto prompt = ChatTemplate::compile(source)->render(input);
  if (!prompt.ok()) return "!" + prompt.error().message;
  std::string out;
  std::size_t done = 0;
  for (const TextRange& range : prompt->untrusted) {
    out += prompt->text.substr(done, range.begin - done) + "[";
    out += prompt->text.substr(range.begin, range.end - range.begin) + "]";
    done = range.end;
  }
  return out + prompt->text.substr(done);
}

}  // namespace pleiad::text
