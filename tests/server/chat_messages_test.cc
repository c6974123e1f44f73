#include "server/chat_messages.h"

#include <string>
#include <variant>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

using testing::HasSubstr;

Json normalised(std::string_view messages) {
  const Json value = json(messages);
  const auto out = normalise_messages(&value);
  const auto* error = std::get_if<ApiError>(&out);
  EXPECT_EQ(error, nullptr) << error->message;
  return error != nullptr ? Json() : std::get<Json>(out);
}

ApiError refusal(std::string_view messages) {
  const Json value = json(messages);
  const auto out = normalise_messages(&value);
  const auto* error = std::get_if<ApiError>(&out);
  EXPECT_NE(error, nullptr) << messages;
  return error != nullptr ? *error : ApiError{};
}

TEST(NormaliseMessages, KeepsPlainMessagesAsTheyAre) {
  const char* messages =
      R"([{"role": "system", "content": "s"}, {"role": "developer", "content": "d"},
      {"role": "user", "content": "", "name": "ann"}, {"role": "assistant", "content": "a"},
      {"role": "tool", "content": "t", "tool_call_id": "1"}])";

  EXPECT_EQ(normalised(messages), json(messages));
}

TEST(NormaliseMessages, JoinsTextParts) {
  EXPECT_EQ(
      normalised(
          R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])"
      ),
      json(R"([{"role": "user", "content": "ab"}])")
  );
  EXPECT_EQ(
      normalised(R"([{"role": "user", "content": []}])"),
      json(R"([{"role": "user", "content": ""}])")
  );
}

TEST(NormaliseMessages, LetsAnAssistantThatCalledToolsSayNothing) {
  const Json out =
      normalised(R"([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
                                  {"role": "assistant", "tool_calls": []}])");

  EXPECT_EQ(at(out, {"0", "content"}), Json(""));
  EXPECT_EQ(at(out, {"0", "tool_calls", "0", "id"}), Json("1"));
  EXPECT_EQ(at(out, {"1", "content"}), Json(""));
}

TEST(NormaliseMessages, NamesTheMessageThatIsWrong) {
  struct Case {
    std::string_view messages;
    std::string_view param;
  };
  const Case cases[] = {
      {"[]", "messages"},
      {"{}", "messages"},
      {"\"hi\"", "messages"},
      {"[1]", "messages[0]"},
      {R"([{"content": "a"}])", "messages[0].role"},
      {R"([{"role": "user", "content": "a"}, {"role": "king", "content": "a"}])",
       "messages[1].role"},
      {R"([{"role": 1, "content": "a"}])", "messages[0].role"},
      {R"([{"role": "user"}])", "messages[0].content"},
      {R"([{"role": "user", "content": null}])", "messages[0].content"},
      {R"([{"role": "assistant", "content": 3}])", "messages[0].content"},
      {R"([{"role": "user", "content": ["a"]}])", "messages[0].content"},
      {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content"},
      {R"([{"role": "user", "content": [{"text": "a"}]}])", "messages[0].content"},
      {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}])",
       "messages[0].content"},
      {R"([{"role": "user", "content": [{"type": "input_audio", "text": "a"}]}])",
       "messages[0].content"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(refusal(c.messages).param, c.param) << c.messages;
    EXPECT_EQ(refusal(c.messages).status, 400);
  }
  EXPECT_EQ(std::get<ApiError>(normalise_messages(nullptr)).param, "messages");
}

std::string tool(std::string_view name) {
  return R"({"type": "function", "function": {"name": ")" + std::string(name) + R"("}})";
}

TEST(CheckTools, AcceptsFunctionsWithPlainNames) {
  EXPECT_FALSE(check_tools(json("[]")));
  EXPECT_FALSE(
      check_tools(json("[" + tool("get_weather-2") + "," + tool(std::string(64, 'a')) + "]"))
  );
}

TEST(CheckTools, RefusesWhatIsNoTool) {
  std::string many = "[" + tool("f");
  for (int i = 0; i < 128; ++i) {
    many += "," + tool("f");
  }
  const std::string cases[] = {
      "{}",
      "[1]",
      many + "]",
      "[" + tool("") + "]",
      "[" + tool("a b") + "]",
      "[" + tool("\xC3\xA9") + "]",
      "[" + tool(std::string(65, 'a')) + "]",
      R"([{"type": "function"}])",
      R"([{"type": "web_search", "function": {"name": "f"}}])",
      R"([{"function": {"name": "f"}}])",
      R"([{"type": "function", "function": {"name": 1}}])",
  };
  for (const std::string& tools : cases) {
    const auto error = check_tools(json(tools));
    ASSERT_TRUE(error) << tools;
    EXPECT_EQ(error->param, "tools");
  }
}

}  // namespace
}  // namespace pleiad::server
