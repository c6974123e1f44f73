#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/utf8.h"
#include "text/chat_template.h"

// Whatever compiles must render or refuse within its budget, and give marks that lie in its text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using pleiad::text::ChatTemplate;
  const std::string_view source(reinterpret_cast<const char*>(bytes), size);
  const auto chat = ChatTemplate::compile(source);
  if (!chat.ok()) return 0;
  pleiad::text::RenderInput input;
  input.messages = *pleiad::parse_json(
      R"([{"role":"system","content":"be nice"},{"role":"user","content":[{"type":"text","text":"h\u00e9 <x>"}]},
          {"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"n":1.5}}}]}])"
  );
  input.tools =
      *pleiad::parse_json(R"([{"type":"function","function":{"name":"f","parameters":{}}}])");
  input.bos_token = "<s>";
  input.limits = {
      .steps_max = 20'000,
      .output_bytes_max = 1 << 16,
      .memory_bytes_max = 4 << 20,
      .depth_max = 200};
  const auto prompt = chat->render(input);
  if (!prompt.ok()) return 0;
  if (!pleiad::is_valid_utf8(prompt->text)) std::abort();
  std::size_t done = 0;
  for (const auto& range : prompt->untrusted) {
    if (range.begin < done || range.end <= range.begin || range.end > prompt->text.size()) {
      std::abort();
    }
    done = range.end;
  }
  return 0;
}
