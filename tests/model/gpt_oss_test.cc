#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/families.h"
#include "tests/model/model_harness.h"
#include "tests/model/mxfp4_checkpoint.h"
#include "tests/weights/files.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;

Json golden_config() {
  std::ifstream in(golden_folder() / "gpt_oss/config.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return parse_json(text).value();
}

Json with(std::string_view key, Json value) {
  Json config = golden_config();
  config.set(key, std::move(value));
  return config;
}

std::vector<std::int64_t> windows(const DecoderConfig& config) {
  std::vector<std::int64_t> out;
  for (const DecoderLayer& layer : config.layers) {
    out.push_back(layer.window);
  }
  return out;
}

TEST(GptOss, WindowsTheLayersThatTheConfigLists) {
  const Json listed = with(
      "layer_types",
      JsonArray{"full_attention", "full_attention", "sliding_attention", "full_attention"}
  );
  EXPECT_THAT(windows(*parse_gpt_oss(listed)), ::testing::ElementsAre(0, 0, 16, 0));
}

TEST(GptOss, WithoutAListEveryOtherLayerHasAWindow) {
  EXPECT_THAT(
      windows(*parse_gpt_oss(with("layer_types", Json()))), ::testing::ElementsAre(16, 0, 16, 0)
  );
}

TEST(GptOss, ReadsItsSwitches) {
  const auto parsed = parse_gpt_oss(with("swiglu_limit", 5.5));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const auto& attention = std::get<GqaShape>(parsed->attention);
  EXPECT_TRUE(attention.sinks && attention.qkv_bias && attention.out_bias);
  EXPECT_EQ(parsed->moe.activation_limit, 5.5F);
  EXPECT_FALSE(parsed->rope.scaling.truncate);
  EXPECT_NEAR(parsed->rope.magnitude, 1.3466, 1e-4);
}

TEST(GptOss, RefusesByNameWhatItDoesNotCompute) {
  const auto refusal = [](std::string_view key, Json value) {
    const auto parsed = parse_gpt_oss(with(key, std::move(value)));
    return parsed.ok() ? "accepted" : parsed.error().message;
  };
  EXPECT_THAT(refusal("layer_types", JsonArray{"full_attention"}), HasSubstr("1 layer_types"));
  EXPECT_THAT(
      refusal("layer_types", JsonArray{"linear", "linear", "linear", "linear"}),
      HasSubstr("layer_types = linear")
  );
  EXPECT_THAT(refusal("layer_types", JsonArray{1}), HasSubstr("layer_types"));
  EXPECT_THAT(refusal("sliding_window", Json()), HasSubstr("sliding_window is missing"));
  EXPECT_THAT(refusal("rope_scaling", Json()), HasSubstr("rope_scaling is missing"));
  EXPECT_THAT(refusal("swiglu_limit", 0), HasSubstr("swiglu_limit"));
}

TEST(GptOss, ExpertsInMxfp4ComputeWithExactlyWhatTheirCodesStandFor) {
  const weights::testing::Folder coded("coded");
  const weights::testing::Folder plain("plain");
  testing::write_mxfp4_gpt_oss(coded, plain);
  const GoldenTensors golden(golden_folder() / "gpt_oss/golden.safetensors");
  const auto prompt = golden.tokens("2.input_ids");

  const auto logits = ModelHarness::load(coded.path()).logits(prompt);

  EXPECT_EQ(logits, ModelHarness::load(plain.path()).logits(prompt));
  EXPECT_GT(error_over_range(logits, golden.floats("2.logits")), 1e-4);
}

}  // namespace
}  // namespace pleiad::model
