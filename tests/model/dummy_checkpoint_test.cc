#include "model/dummy_checkpoint.h"

#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "model/model.h"

namespace pleiad::model {
namespace {

using device::DType;

// The config.json of a golden model, with a quantization_config where one is given.
Json config_of(const std::string& family, const std::string& quantization = {}) {
  std::ifstream in(std::string(PLEIAD_SOURCE_DIR) + "/tests/golden/" + family + "/config.json");
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!quantization.empty()) {
    text.insert(text.find('{') + 1, "\"quantization_config\":" + quantization + ",");
  }
  return parse_json(text).value();
}

std::unique_ptr<weights::Checkpoint> dummy_of(const Json& config) {
  return find_architecture(config).value()->make_dummy(config, Compute::BFloat16).value();
}

// Loads the config's noise as a checkpoint is loaded.
Result<std::unique_ptr<ModelWeights>> load(const Json& config) {
  device::ThreadPool pool(2);
  const auto dummy = dummy_of(config);
  return find_architecture(config).value()->load(
      config, *dummy, {.pool = &pool, .compute = Compute::BFloat16}
  );
}

TEST(DummyCheckpoint, HasEveryTensorOfEveryFamily) {
  for (const char* family :
       {"deepseek_v2",
        "deepseek_v3",
        "deepseek_v3_fp8",
        "glm4_moe",
        "gpt_oss",
        "kimi_k2",
        "mixtral",
        "qwen3_moe"}) {
    const auto loaded = load(config_of(family));
    EXPECT_TRUE(loaded.ok()) << family << ": " << loaded.error().message;
  }
}

TEST(DummyCheckpoint, StoresExpertsAsTheConfigSays) {
  const auto fp8 = dummy_of(config_of("deepseek_v3_fp8"));
  const auto mxfp4 = dummy_of(config_of("gpt_oss", R"({"quant_method":"mxfp4"})"));
  const std::string expert = "model.layers.1.mlp.experts.0.gate_proj.weight";

  EXPECT_EQ(fp8->tensor(expert).value().dtype, DType::F8E4M3);
  EXPECT_EQ(fp8->tensor("lm_head.weight").value().dtype, DType::BF16);
  EXPECT_TRUE(fp8->contains(expert + "_scale_inv"));
  EXPECT_TRUE(mxfp4->contains("model.layers.0.mlp.experts.gate_up_proj_blocks"));
  EXPECT_EQ(mxfp4->tensor("model.layers.0.self_attn.q_proj.weight").value().dtype, DType::BF16);
}

TEST(DummyCheckpoint, EveryFormatLoads) {
  const std::string ints = R"({"quant_method":"compressed-tensors","format":"int-quantized",
    "config_groups":{"group_0":{"input_activations":{"dynamic":true,"num_bits":8,
    "strategy":"token","symmetric":true,"type":"int"},"targets":["Linear"],"weights":{
    "dynamic":false,"num_bits":8,"strategy":"channel","symmetric":true,"type":"int"}}}})";
  const std::string nibbles = R"({"quant_method":"compressed-tensors","format":"pack-quantized",
    "config_groups":{"group_0":{"targets":["Linear"],"weights":{"group_size":32,"num_bits":4,
    "strategy":"group","symmetric":true,"type":"int"}}}})";
  for (const auto& [family, quantization] :
       {std::pair("qwen3_moe", ints),
        std::pair("qwen3_moe", nibbles),
        std::pair("deepseek_v2", ints),
        std::pair("gpt_oss", std::string(R"({"quant_method":"mxfp4"})"))}) {
    const auto loaded = load(config_of(family, quantization));
    EXPECT_TRUE(loaded.ok()) << family << quantization << ": " << loaded.error().message;
  }
}

TEST(DummyCheckpoint, OtherBlocksOfFp8AreRefusedByName) {
  const Json config = config_of(
      "qwen3_moe",
      R"({"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic",
          "weight_block_size":[64,128]})"
  );
  const auto made = find_architecture(config).value()->make_dummy(config, Compute::BFloat16);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("64 x 128"), std::string::npos);
}

}  // namespace
}  // namespace pleiad::model
