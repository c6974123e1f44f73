#include "model/weight_description.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A description with these further members, of a model with two layers.
Result<QuantizationConfig> parse(const std::string& more) {
  return parse_weight_description(
      parse_json(
          R"({"version": "1.0.0", "model_quant_type": "W8A8_DYNAMIC", "group_size": 0,
        "model.embed_tokens.weight": "FLOAT",
        "model.layers.0.input_layernorm.weight": "FLOAT",
        "model.layers.1.mlp.up_proj.weight": "W8A8_DYNAMIC",
        "model.layers.1.mlp.up_proj.weight_scale": "W8A8_DYNAMIC",
        "model.layers.1.mlp.up_proj.weight_offset": "W8A8_DYNAMIC",
        "model.layers.0.mlp.up_proj.weight": "W8A8_DYNAMIC",
        "model.layers.0.mlp.up_proj": "W8A8_DYNAMIC")" +
          more + "}"
      )
          .value(),
      2
  );
}

std::string refusal(const std::string& more) {
  const auto parsed = parse(more);
  return parsed.ok() ? "accepted" : parsed.error().message;
}

TEST(WeightDescription, DynamicEightBitTensorsAreInt8ByChannel) {
  const QuantizationConfig read = parse("").value();

  EXPECT_EQ(read.format, kernels::WeightFormat::Int8Channel);
  EXPECT_THAT(
      *read.coded,
      ElementsAre("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight")
  );
}

TEST(WeightDescription, OneThatNamesNothingQuantisedIsPlain) {
  const auto read =
      parse_weight_description(parse_json(R"({"model.norm.weight": "FLOAT"})").value(), 1);

  EXPECT_EQ(read->format, kernels::WeightFormat::Plain);
  EXPECT_TRUE(read->coded->empty());
}

TEST(WeightDescription, TensorsThatAreNotComputedMayBeOfAnyType) {
  EXPECT_EQ(refusal(R"(, "model.layers.2.mlp.up_proj.weight": "W8A8")"), "accepted");
  EXPECT_EQ(refusal(R"(, "visual.patch.weight": "W8A16")"), "accepted");
}

TEST(WeightDescription, OtherTypesAreRefusedByNameOfTheTensor) {
  for (const std::string type :
       {"W8A8",
        "W8A8_MIX",
        "W8A16",
        "W4A8_DYNAMIC",
        "W4A4_DYNAMIC",
        "WFP8AFP8_DYNAMIC",
        "W8A8_MXFP8"}) {
    EXPECT_EQ(
        refusal(R"(, "model.layers.0.self_attn.q_proj.weight": ")" + type + "\""),
        "quant_model_description.json: model.layers.0.self_attn.q_proj.weight is " + type +
            "; computed: FLOAT, W8A8_DYNAMIC"
    );
  }
}

TEST(WeightDescription, WhatAsksForMoreThanWeightsIsRefusedByName) {
  EXPECT_THAT(refusal(R"(, "kv_quant_type": "C8")"), HasSubstr("kv_quant_type \"C8\""));
  EXPECT_THAT(refusal(R"(, "kv_cache_type": "C8")"), HasSubstr("kv_cache_type"));
  EXPECT_THAT(refusal(R"(, "fa_quant_type": "FAKQuant")"), HasSubstr("fa_quant_type"));
  EXPECT_THAT(refusal(R"(, "reduce_quant_type": "per_channel")"), HasSubstr("reduce_quant_type"));
  EXPECT_THAT(refusal(R"(, "metadata": {"quarot": {"rotation": 1}})"), HasSubstr("quarot"));
  EXPECT_EQ(refusal(R"(, "kv_quant_type": null, "fa_quant_type": "", "metadata": {})"), "accepted");
}

TEST(WeightDescription, MustBeAnObject) {
  EXPECT_FALSE(parse_weight_description(Json(JsonArray{}), 1).ok());
}

}  // namespace
}  // namespace pleiad::model
