#include "model/tensor_role.h"

#include <gtest/gtest.h>

namespace pleiad::model {
namespace {

TEST(TensorRole, FollowsThePublishedNamesOfAllFamilies) {
  const auto role = [](std::string_view name) { return role_of(name, 3); };
  EXPECT_EQ(role("model.embed_tokens.weight"), TensorRole::Embedding);
  EXPECT_EQ(role("lm_head.weight"), TensorRole::Head);
  EXPECT_EQ(role("model.norm.weight"), TensorRole::Norm);
  EXPECT_EQ(role("model.layers.0.post_attention_layernorm.weight"), TensorRole::Norm);
  EXPECT_EQ(role("model.layers.0.self_attn.q_a_layernorm.weight"), TensorRole::Norm);
  EXPECT_EQ(role("model.layers.0.self_attn.q_norm.weight"), TensorRole::Norm);
  EXPECT_EQ(role("model.layers.0.self_attn.kv_b_proj.weight_scale_inv"), TensorRole::Attention);
  EXPECT_EQ(role("model.layers.0.self_attn.sinks"), TensorRole::Attention);
  EXPECT_EQ(role("model.layers.0.mlp.gate_proj.weight"), TensorRole::DenseMlp);
  EXPECT_EQ(role("model.layers.1.mlp.gate.weight"), TensorRole::Gate);
  EXPECT_EQ(role("model.layers.1.mlp.gate.e_score_correction_bias"), TensorRole::Gate);
  EXPECT_EQ(role("model.layers.1.mlp.router.bias"), TensorRole::Gate);
  EXPECT_EQ(role("model.layers.1.block_sparse_moe.experts.7.w1.weight"), TensorRole::Experts);
  EXPECT_EQ(role("model.layers.1.mlp.experts.gate_up_proj_blocks"), TensorRole::Experts);
  EXPECT_EQ(role("model.layers.1.mlp.shared_experts.up_proj.weight"), TensorRole::SharedExperts);
  EXPECT_EQ(role("model.layers.3.mlp.experts.7.up_proj.weight"), TensorRole::Unused);
}

TEST(TensorRole, CountsNumbersAndNotTheirScales) {
  const device::TensorView words{
      .bytes = {}, .dtype = device::DType::I32, .shape = {.extents = {4, 5}, .rank = 2}};
  EXPECT_EQ(parameters_of("a.weight", words), 20);
  EXPECT_EQ(parameters_of("a.weight_packed", words), 160);
  EXPECT_EQ(parameters_of("a.gate_up_proj_blocks", words), 40);
  EXPECT_EQ(parameters_of("a.weight_scale", words), 0);
  EXPECT_EQ(parameters_of("a.weight_scale_inv", words), 0);
  EXPECT_EQ(parameters_of("a.gate_up_proj_scales", words), 0);
}

TEST(TensorRole, EveryRoleHasANameOfItsOwn) {
  for (const TensorRole role : kTensorRoles) {
    EXPECT_EQ(to_string(role) == "unused", role == TensorRole::Unused);
  }
}

}  // namespace
}  // namespace pleiad::model
