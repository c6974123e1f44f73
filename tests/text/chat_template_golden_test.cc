// Renders what tests/text/chat_template_differential.py rendered with Jinja itself.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "base/json.h"
#include "tests/text/conversations.h"
#include "text/chat_template.h"

namespace pleiad::text {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(PLEIAD_SOURCE_DIR) / "tests/golden";

// The prompt, or why there is none after a star.
std::string rendered(const std::string& source, const RenderInput& input) {
  const auto compiled = ChatTemplate::compile(source);
  if (!compiled.ok()) return "* " + compiled.error().message;
  const auto prompt = compiled->render(input);
  return prompt.ok() ? prompt->text : "* " + prompt.error().message;
}

void expect_same(const std::string& source, const RenderInput& input, const Json& expected) {
  const std::string ours = rendered(source, input);
  if (expected.as_string() == nullptr) {
    EXPECT_TRUE(ours.starts_with("* ")) << "Jinja refuses\n" << source << "\nbut we give\n" << ours;
  } else {
    EXPECT_EQ(ours, *expected.as_string()) << source;
  }
}

TEST(ChatTemplateGolden, EveryConversationRendersAsWithJinja) {
  const Json golden = *parse_json(read(kFolder / "templates/conversations.json"));
  const JsonArray& conversations = *golden.find("conversations")->as_array();
  std::map<std::string, std::string> sources;

  for (const Json& item : *golden.find("cases")->as_array()) {
    const std::string& name = *item.find("template")->as_string();
    if (!sources.contains(name)) sources[name] = read(kFolder / "templates" / name);
    const auto index = static_cast<std::size_t>(*item.find("conversation")->as_int());
    SCOPED_TRACE(name + ", conversation " + std::to_string(index));
    expect_same(sources[name], input_of(conversations[index]), *item.find("expected"));
  }
}

TEST(ChatTemplateGolden, EverySnippetRendersAsWithJinja) {
  const Json golden = *parse_json(read(kFolder / "templates/snippets.json"));
  const RenderInput input = input_of(*golden.find("variables"));

  for (const Json& item : *golden.find("cases")->as_array()) {
    expect_same(*item.find("template")->as_string(), input, *item.find("expected"));
  }
}

TEST(ChatTemplateGolden, TheBundledModelsChatsRenderAsReferenced) {
  const Json golden = *parse_json(read(kFolder / "fable/reference.json"));
  const Json config = *parse_json(
      read(std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable/tokenizer_config.json")
  );
  const std::string& source = *config.find("chat_template")->as_string();

  for (const Json& chat : *golden.find("chats")->as_array()) {
    EXPECT_EQ(
        rendered(source, {.messages = *chat.find("messages"), .bos_token = "<|bos|>"}),
        *chat.find("rendered")->as_string()
    );
  }
}

}  // namespace
}  // namespace pleiad::text
