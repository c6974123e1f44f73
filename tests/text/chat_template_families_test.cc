// Renders a few hundred seeded conversations with a minimal template of each family, and expects
// what Jinja 3 itself makes of them (tests/text/family_conversations.py, run by this test).
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "base/json.h"
#include "tests/text/conversations.h"
#include "text/chat_template.h"

namespace pleiad::text {
namespace {

const std::filesystem::path kSource = PLEIAD_SOURCE_DIR;

struct Outcome {
  int code = -1;
  std::string output;
};

Outcome run(const std::string& command) {
  Outcome out;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return out;
  std::array<char, 65'536> buffer{};
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    out.output.append(buffer.data(), got);
  }
  const int status = pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

TEST(ChatTemplateFamilies, EveryConversationRendersAsWithJinja) {
  ASSERT_EQ(run("/usr/bin/python3 -c 'import jinja2' 2>&1").code, 0) << "needs python3-jinja2";
  const Outcome made = run((kSource / "tests/text/family_conversations.py").string());
  ASSERT_EQ(made.code, 0);
  const auto golden = parse_json(made.output);
  ASSERT_TRUE(golden.ok()) << golden.error().message;
  const JsonArray& conversations = *golden->find("conversations")->as_array();
  std::map<std::string, ChatTemplate> templates;
  std::map<std::string, int> rendered;

  for (const Json& item : *golden->find("cases")->as_array()) {
    const std::string& name = *item.find("template")->as_string();
    if (!templates.contains(name)) {
      auto compiled =
          ChatTemplate::compile(read(kSource / "tests/golden/templates/families" / name));
      ASSERT_TRUE(compiled.ok()) << name << ": " << compiled.error().message;
      templates.emplace(name, *std::move(compiled));
    }
    const auto index = static_cast<std::size_t>(*item.find("conversation")->as_int());
    const auto prompt = templates.at(name).render(input_of(conversations[index]));
    const std::string* expected = item.find("expected")->as_string();
    const std::string what = name + ", conversation " + conversations[index].dump();
    if (expected == nullptr) {
      EXPECT_FALSE(prompt.ok()) << "Jinja refuses " << what << " but we give\n" << prompt->text;
      continue;
    }
    ASSERT_TRUE(prompt.ok()) << what << ": " << prompt.error().message;
    EXPECT_EQ(prompt->text, *expected) << what;
    ++rendered[name];
  }

  ASSERT_EQ(rendered.size(), 7U);
  for (const auto& [name, count] : rendered) {
    EXPECT_GE(count, 100) << name;
  }
}

}  // namespace
}  // namespace pleiad::text
