#include "text/detail/post_processor.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/small_tokenizer.h"

namespace pleiad::text {
namespace {

using ::testing::ElementsAre;

TEST(PostProcessor, FramesTheTextOnlyWhenAsked) {
  const Tokenizer tokenizer = small(
      R"(,"added_tokens":[{"id":300,"content":"<s>","special":true}],"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[300]}}}]})"
  );

  EXPECT_THAT(*tokenizer.encode("x"), ElementsAre('x'));
  EXPECT_THAT(*tokenizer.encode("x", {.add_special_tokens = true}), ElementsAre(300, 'x'));
}

TEST(PostProcessor, ExplicitFlagsOfTheConfigDecide) {
  const std::string added =
      R"(,"added_tokens":[{"id":300,"content":"<s>","special":true},{"id":301,"content":"</s>","special":true}])";
  const Tokenizer both = small(
      added,
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":true,"add_eos_token":true})"
  );
  const Tokenizer neither =
      small(added, R"({"bos_token":"<s>","eos_token":null,"add_bos_token":false})");

  EXPECT_THAT(*both.encode("x", {.add_special_tokens = true}), ElementsAre(300, 'x', 301));
  EXPECT_THAT(*neither.encode("x", {.add_special_tokens = true}), ElementsAre('x'));
  EXPECT_EQ(neither.eos(), std::nullopt);
}

TEST(PostProcessor, RefusesTemplatesThatMakeNoSense) {
  const auto parse = [](std::string_view json) {
    return detail::parse_post_processor(*parse_json(json));
  };

  EXPECT_TRUE(parse("null").ok());
  EXPECT_FALSE(parse(R"({"type":"TemplateProcessing"})").ok());
  EXPECT_FALSE(
      parse(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}}]})").ok()
  );
  EXPECT_EQ(parse(R"({"type":"RobertaProcessing"})").error().kind, ErrorKind::Unsupported);
}

}  // namespace
}  // namespace pleiad::text
