#include "model/unread_tensors.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/model.h"
#include "tests/model/model_harness.h"
#include "tests/model/tensor_files.h"
#include "weights/read_file.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;
using testing::NamedTensor;
using weights::testing::Folder;

Json config_of(const std::filesystem::path& folder) {
  return parse_json(weights::read_text_file(folder / "config.json", 1U << 20U).value()).value();
}

NamedTensor tensor(const std::string& name, std::string_view dtype = "F32") {
  const std::vector<std::int64_t> shape = {2};
  return {name, dtype, shape, std::string(dtype == "F32" ? 8 : 2, '\0')};
}

// A golden folder's tensors and further ones beside them.
class Golden {
 public:
  explicit Golden(const std::string& family)
      : from_(golden_folder() / family),
        tensors_(testing::read_tensors(*weights::Checkpoint::open(from_).value())) {}

 private:
  template <typename F>
  auto with(const std::vector<NamedTensor>& more, const F& f) const {
    std::vector<NamedTensor> all = tensors_;
    all.insert(all.end(), more.begin(), more.end());
    const Folder folder;
    const auto checkpoint = testing::open_tensors(folder, all);
    const Json config = config_of(from_);
    return f(*find_architecture(config).value(), config, *checkpoint);
  }

 public:
  // What check() says of the folder with these tensors too.
  [[nodiscard]] Result<std::size_t> check(const std::vector<NamedTensor>& more) const {
    return with(more, [](const Architecture& architecture, const Json& config, const auto& held) {
      return architecture.check(config, held, {});
    });
  }
  [[nodiscard]] std::string refusal(const NamedTensor& more) const {
    const auto checked = check({more});
    return checked.ok() ? "accepted" : checked.error().message;
  }
  [[nodiscard]] UnreadTensors unread(const std::vector<NamedTensor>& more) const {
    return with(
               more,
               [](const Architecture& architecture, const Json& config, const auto& held) {
                 return architecture.unread(config, held);
               }
    ).value();
  }

 private:
  std::filesystem::path from_;
  std::vector<NamedTensor> tensors_;
};

TEST(UnreadTensors, EveryGoldenFolderIsReadWhole) {
  for (const char* family :
       {"deepseek_v2",
        "deepseek_v3",
        "deepseek_v3_fp8",
        "glm4_moe",
        "gpt_oss",
        "kimi_k2",
        "mixtral",
        "qwen3_moe"}) {
    const auto checked = Golden(family).check({});
    EXPECT_TRUE(checked.ok()) << family << ": " << checked.error().message;
    EXPECT_EQ(Golden(family).unread({}).outside, 0) << family;
  }
}

TEST(UnreadTensors, TheBundledModelsFurtherLayersAreCounted) {
  const auto checkpoint = weights::Checkpoint::open(fable_folder()).value();
  const Json config = config_of(fable_folder());

  const auto unread = find_architecture(config).value()->unread(config, *checkpoint);

  ASSERT_TRUE(unread.ok()) << unread.error().message;
  EXPECT_GT(unread->further_layers, 10);
  EXPECT_EQ(unread->outside, 0);
}

TEST(UnreadTensors, WhatWouldChangeTheAnswersIsRefusedByName) {
  const std::string layer = "model.layers.0.";
  struct Case {
    std::string family;
    std::string name;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {"qwen3_moe",
       layer + "self_attn.q_proj.bias",
       "weight below model.layers.0.self_attn.q_proj."},
      {"qwen3_moe", layer + "self_attn.sinks", "k_norm, k_proj, o_proj"},
      {"qwen3_moe", layer + "mlp.shared_expert.up_proj.weight", "experts, gate below"},
      {"qwen3_moe", layer + "mlp.experts.999.up_proj.weight", "0, 1"},
      {"qwen3_moe", layer + "mlp.experts.0.up_proj.weight_scale", "weight below"},
      {"qwen3_moe", layer + "mlp.experts.0.up_proj.weight_packed", "weight below"},
      {"qwen3_moe", layer + "mlp.experts.0.up_proj.lora_A.weight", "weight below"},
      {"qwen3_moe", "model.norm.bias", "weight below model.norm."},
      {"qwen3_moe", "lm_head.bias", "weight below lm_head."},
      {"qwen3_moe", "model.embed_norm.weight", "embed_tokens, layers, norm below model."},
      {"mixtral", layer + "self_attn.q_norm.weight", "k_proj, o_proj, q_proj, v_proj below"},
      {"mixtral", layer + "block_sparse_moe.gate.bias", "weight below"},
      {"glm4_moe", layer + "self_attn.o_proj.bias", "weight below"},
      {"gpt_oss", layer + "self_attn.q_norm.weight", "q_proj, sinks"},
      {"gpt_oss", layer + "mlp.experts.gate_up_proj_scales", "gate_up_proj"},
      {"deepseek_v2", "model.layers.1.mlp.gate.e_score_correction_bias", "weight below"},
      {"deepseek_v3", layer + "post_mlp_layernorm.weight", "post_attention_layernorm"},
      {"deepseek_v3", layer + "self_attn.indexer.wk.weight", "kv_a_layernorm"},
      {"deepseek_v3_fp8", "model.layers.1.mlp.experts.0.up_proj.weight_offset", "weight below"},
      {"deepseek_v3_fp8", "model.layers.1.mlp.experts.0.up_proj.input_scale", "weight below"},
  };
  for (const Case& one : cases) {
    const std::string message = Golden(one.family).refusal(tensor(one.name));
    EXPECT_THAT(message, HasSubstr("tensor " + one.name + " is none that this model reads"));
    EXPECT_THAT(message, HasSubstr(one.expected));
  }
}

TEST(UnreadTensors, WhatPublishedCheckpointsCarryAndNobodyNeedsIsCounted) {
  const UnreadTensors unread = Golden("deepseek_v3")
                                   .unread({
                                       tensor("model.layers.99.eh_proj.weight"),
                                       tensor("model.layers.99.shared_head.norm.weight"),
                                       tensor("model.mtp.0.norm.weight"),
                                       tensor("model.layers.0.self_attn.rotary_emb.inv_freq"),
                                       tensor("model.layers.0.self_attn.k_scale"),
                                       tensor("model.layers.0.self_attn.attn.v_scale"),
                                       tensor("model.layers.0.self_attn.k_proj.output_scale"),
                                       tensor("vision_tower.patch_embed.weight"),
                                   });

  EXPECT_GE(unread.further_layers, 3);
  EXPECT_EQ(unread.frequencies, 1);
  EXPECT_EQ(unread.cache_scales, 3);
  EXPECT_EQ(unread.tied_heads, 0);
  EXPECT_EQ(unread.outside, 1);
}

TEST(UnreadTensors, AHeadThatIsTiedToTheEmbeddingMayBeThereAsACopy) {
  const Folder folder;
  const std::vector<NamedTensor> tensors = {
      tensor("model.embed_tokens.weight"), tensor("lm_head.weight")};
  const auto checkpoint = testing::open_tensors(folder, tensors);
  const std::vector<std::string> read = {"model.embed_tokens.weight"};

  EXPECT_EQ(check_unread_tensors(*checkpoint, read, 1).value().tied_heads, 1);
}

TEST(UnreadTensors, CompanionsBelongToHowTheirMatrixIsStored) {
  const Folder folder;
  const std::vector<std::string> read = {"model.a", "model.b", "model.c", "model.d"};
  const std::vector<NamedTensor> fine = {
      tensor("model.a", "I8"),
      tensor("model.a_scale"),
      tensor("model.a_offset"),
      tensor("model.b", "F8_E4M3"),
      tensor("model.b_scale_inv"),
      tensor("model.c_packed"),
      tensor("model.c_scale"),
      tensor("model.c_shape"),
      tensor("model.d_blocks"),
      tensor("model.d_scales"),
  };
  EXPECT_TRUE(check_unread_tensors(*testing::open_tensors(folder, fine), read, 1).ok());

  for (const char* stray :
       {"model.a_scale_inv",
        "model.a_packed",
        "model.b_scale",
        "model.c_scale_inv",
        "model.c_offset",
        "model.d_scale",
        "model.e_scale"}) {
    std::vector<NamedTensor> tensors = fine;
    tensors.push_back(tensor(stray));
    const auto checked = check_unread_tensors(*testing::open_tensors(folder, tensors), read, 1);
    ASSERT_FALSE(checked.ok()) << stray;
    EXPECT_THAT(checked.error().message, HasSubstr(std::string("tensor ") + stray));
  }
}

}  // namespace
}  // namespace pleiad::model
