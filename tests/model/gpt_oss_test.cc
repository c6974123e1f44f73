#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/families.h"
#include "tests/model/dequantised.h"
#include "tests/model/model_harness.h"
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

// [experts, columns, rows] in BF16 as [experts, rows, columns] in float.
std::vector<float> turned(const device::TensorView& view) {
  const std::int64_t rows = view.shape[2];
  const std::int64_t columns = view.shape[1];
  std::vector<float> out;
  for (std::int64_t i = 0; i < view.shape.elements(); ++i) {
    const std::int64_t expert = i / (rows * columns);
    const std::int64_t from = (expert * columns + i % columns) * rows + i / columns % rows;
    out.push_back(device::bf16_to_float(testing::element_of<device::BF16>(view, from)));
  }
  return out;
}

TEST(GptOss, ExpertsInMxfp4ComputeWithExactlyWhatTheirCodesStandFor) {
  const auto checkpoint = weights::Checkpoint::open(golden_folder() / "gpt_oss").value();
  std::vector<testing::NamedTensor> coded;
  std::vector<testing::NamedTensor> plain;
  for (const std::string& name : checkpoint->names()) {
    if (!name.ends_with("_proj")) {
      coded.push_back(testing::dequantised(*checkpoint, name));
      plain.push_back(coded.back());
      continue;
    }
    const auto view = checkpoint->tensor(name).value();
    const std::int64_t experts = view.shape[0];
    const std::int64_t columns = view.shape[1];
    const std::int64_t rows = view.shape[2];
    const testing::Mxfp4 out = testing::to_mxfp4(turned(view));
    const std::int64_t groups = columns / 32;
    coded.push_back({name + "_blocks", "U8", {experts, rows, groups, 16}, out.blocks});
    coded.push_back({name + "_scales", "U8", {experts, rows, groups}, out.scales});
    std::vector<float> back(out.values.size());
    for (std::size_t i = 0; i < back.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const std::int64_t expert = at / (rows * columns);
      const std::int64_t to = (expert * columns + at % columns) * rows + at / columns % rows;
      back[static_cast<std::size_t>(to)] = out.values[i];
    }
    plain.push_back(testing::floats_named(name, {experts, columns, rows}, back));
  }
  const weights::testing::Folder coded_folder("coded");
  const weights::testing::Folder plain_folder("plain");
  testing::write_tensors(coded_folder, coded);
  testing::write_tensors(plain_folder, plain);
  Json config = golden_config();
  plain_folder.write("config.json", config.dump());
  Json quantised;
  quantised.set("quant_method", "mxfp4");
  config.set("quantization_config", quantised);
  coded_folder.write("config.json", config.dump());
  const GoldenTensors golden(golden_folder() / "gpt_oss/golden.safetensors");
  const auto prompt = golden.tokens("2.input_ids");

  const auto logits = ModelHarness::load(coded_folder.path()).logits(prompt);

  EXPECT_EQ(logits, ModelHarness::load(plain_folder.path()).logits(prompt));
  EXPECT_GT(error_over_range(logits, golden.floats("2.logits")), 1e-4);
}

}  // namespace
}  // namespace pleiad::model
