#include "model/checkpoint_quantizer.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/dequantised.h"
#include "tests/model/model_harness.h"
#include "tests/model/mxfp4_checkpoint.h"
#include "tests/weights/files.h"
#include "weights/checkpoint.h"
#include "weights/read_file.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;
using weights::QuantScheme;

class CheckpointQuantizer : public ::testing::Test {
 protected:
  Result<QuantizeReport> quantize(
      const std::string& family,
      QuantScheme scheme,
      std::uint64_t shard_bytes = std::uint64_t{1} << 30U
  ) {
    return quantize_checkpoint(
        golden_folder() / family,
        to(),
        {.scheme = scheme, .shard_bytes = shard_bytes, .pool = &pool_}
    );
  }
  [[nodiscard]] std::filesystem::path to() const { return folder_.path() / "out"; }
  [[nodiscard]] Json config() const {
    return parse_json(weights::read_text_file(to() / "config.json", 1U << 20U).value()).value();
  }

  device::ThreadPool pool_{2};

 private:
  weights::testing::Folder folder_;
};

// The same model with its weights as plain floats.
void write_dequantised(const std::filesystem::path& from, const weights::testing::Folder& to) {
  const auto checkpoint = weights::Checkpoint::open(from).value();
  std::vector<testing::NamedTensor> tensors;
  for (const std::string& name : checkpoint->names()) {
    if (name.ends_with("_scale") || name.ends_with("_scale_inv") || name.ends_with("_shape")) {
      continue;
    }
    tensors.push_back(testing::dequantised(*checkpoint, name));
  }
  testing::write_tensors(to, tensors);
  Json config =
      parse_json(weights::read_text_file(from / "config.json", 1U << 20U).value()).value();
  config.set("quantization_config", Json());
  to.write("config.json", config.dump());
}

TEST_F(CheckpointQuantizer, QuantisedModelsComputeWithExactlyTheirDequantisedWeights) {
  const weights::testing::Folder plain("plain");
  for (const char* family : {"deepseek_v2", "deepseek_v3", "glm4_moe", "mixtral", "qwen3_moe"}) {
    for (const auto scheme : {QuantScheme::Fp8Block, QuantScheme::Int4Group32}) {
      SCOPED_TRACE(std::string(family) + " " + std::string(weights::to_string(scheme)));
      const auto report = quantize(family, scheme);
      ASSERT_TRUE(report.ok()) << report.error().message;
      EXPECT_GT(report->quantized, 10);
      EXPECT_LT(report->bytes_after, report->bytes_before);
      write_dequantised(to(), plain);
      const GoldenTensors golden(golden_folder() / family / "golden.safetensors");
      const auto prompt = golden.tokens("2.input_ids");

      const auto quantised = ModelHarness::load(to()).logits(prompt);
      const auto expected = ModelHarness::load(plain.path()).logits(prompt);

      // Only the number of an expert's partial sums may differ.
      EXPECT_LT(error_over_range(quantised, expected), 2e-6);
      std::filesystem::remove_all(to());
    }
  }
}

TEST_F(CheckpointQuantizer, StackedExpertsBecomeMxfp4AndAnswerLikeTheirCodes) {
  // Floats that codes stand for become those codes again.
  const weights::testing::Folder coded("coded");
  const weights::testing::Folder plain("plain");
  testing::write_mxfp4_gpt_oss(coded, plain);

  const auto report =
      quantize_checkpoint(plain.path(), to(), {.scheme = QuantScheme::MxFp4, .pool = &pool_});

  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GT(report->quantized, 1);
  EXPECT_LT(report->bytes_after, report->bytes_before);
  EXPECT_EQ(*config().find("quantization_config")->find("quant_method"), Json("mxfp4"));
  const auto ours = weights::Checkpoint::open(to()).value();
  const auto theirs = weights::Checkpoint::open(coded.path()).value();
  EXPECT_EQ(ours->names(), theirs->names());
  const GoldenTensors golden(golden_folder() / "gpt_oss/golden.safetensors");
  const auto prompt = golden.tokens("2.input_ids");
  EXPECT_EQ(
      ModelHarness::load(to()).logits(prompt), ModelHarness::load(coded.path()).logits(prompt)
  );
}

TEST_F(CheckpointQuantizer, AStackWithAWeightThatIsNoNumberIsNamed) {
  auto tensors =
      testing::read_tensors(*weights::Checkpoint::open(golden_folder() / "gpt_oss").value());
  const std::string name = "model.layers.1.mlp.experts.down_proj";
  std::string& bytes = std::ranges::find(tensors, name, &testing::NamedTensor::name)->bytes;
  bytes.replace(bytes.size() - 2, 2, "\xc0\x7f");
  const weights::testing::Folder from("from");
  testing::write_tensors(from, tensors);
  from.write(
      "config.json",
      weights::read_text_file(golden_folder() / "gpt_oss/config.json", 1U << 20U).value()
  );

  const auto report =
      quantize_checkpoint(from.path(), to(), {.scheme = QuantScheme::MxFp4, .pool = &pool_});

  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message, HasSubstr(name + ": matrix"));
  EXPECT_THAT(report.error().message, HasSubstr("is nan"));
}

TEST_F(CheckpointQuantizer, EightBitIntegersLoadAndAnswerInEveryFamily) {
  for (const char* family : {"deepseek_v2", "deepseek_v3", "glm4_moe", "mixtral", "qwen3_moe"}) {
    const auto report = quantize(family, QuantScheme::W8A8);
    ASSERT_TRUE(report.ok()) << report.error().message;
    const GoldenTensors golden(golden_folder() / family / "golden.safetensors");
    // One token: random gates decide by hairs, and more tokens would multiply that.
    const auto logits = ModelHarness::load(to()).logits(golden.tokens("0.input_ids"));
    EXPECT_LT(error_over_range(logits, golden.floats("0.logits")), 0.2) << family;
    std::filesystem::remove_all(to());
  }
}

TEST_F(CheckpointQuantizer, KeepsWhatMustStayExact) {
  ASSERT_TRUE(quantize("deepseek_v3", QuantScheme::Int4Group32).ok());
  const auto checkpoint = weights::Checkpoint::open(to()).value();
  for (const char* name :
       {"model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.0.self_attn.kv_b_proj.weight"}) {
    EXPECT_EQ(checkpoint->tensor(name).value().dtype, device::DType::BF16) << name;
  }
  EXPECT_TRUE(checkpoint->contains("model.layers.1.mlp.experts.0.up_proj.weight_packed"));
  EXPECT_EQ(*config().find("quantization_config")->find("format")->as_string(), "pack-quantized");
}

TEST_F(CheckpointQuantizer, AnAttemptThatWasCutOffIsTakenUp) {
  constexpr std::uint64_t kShard = 100'000;
  // Something stands in the way of the second file, whose name is like that of the first.
  std::filesystem::path obstacle;
  const auto obstruct = [&](std::uint64_t, std::uint64_t) {
    for (const auto& entry : std::filesystem::directory_iterator(to())) {
      std::string name = entry.path().filename().string();
      if (!name.starts_with("model-00001")) continue;
      name.replace(0, 11, "model-00002");
      obstacle = to() / name;
    }
    std::filesystem::create_directories(obstacle);
  };
  const auto cut_off = quantize_checkpoint(
      golden_folder() / "mixtral",
      to(),
      {.scheme = QuantScheme::Fp8Block, .shard_bytes = kShard, .pool = &pool_, .progress = obstruct}
  );
  ASSERT_FALSE(cut_off.ok());
  EXPECT_THAT(cut_off.error().message, HasSubstr("model-00002-of-"));
  EXPECT_FALSE(std::filesystem::exists(to() / "config.json"));
  std::filesystem::remove(obstacle);

  const auto other = quantize("mixtral", QuantScheme::W8A8, kShard);
  EXPECT_THAT(other.error().message, HasSubstr("another source or scheme"));
  const auto resumed = quantize("mixtral", QuantScheme::Fp8Block, kShard);

  ASSERT_TRUE(resumed.ok()) << resumed.error().message;
  EXPECT_EQ(resumed->resumed, 1);
  const GoldenTensors golden(golden_folder() / "mixtral/golden.safetensors");
  EXPECT_EQ(ModelHarness::load(to()).greedy(golden.tokens("0.input_ids"), 4).size(), 4U);
}

TEST_F(CheckpointQuantizer, AFolderOfOtherThingsIsLeftAlone) {
  std::filesystem::create_directories(to());
  std::ofstream(to() / "thesis.txt") << "ten years of work";
  const auto refused = quantize("mixtral", QuantScheme::Fp8Block);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("is not empty"));
}

TEST_F(CheckpointQuantizer, AFinishedFolderIsNotWrittenAgain) {
  ASSERT_TRUE(quantize("mixtral", QuantScheme::Fp8Block).ok());
  const auto again = quantize("mixtral", QuantScheme::Fp8Block);
  ASSERT_FALSE(again.ok());
  EXPECT_THAT(again.error().message, HasSubstr("already holds a model"));
}

TEST_F(CheckpointQuantizer, RefusesWhatIsQuantisedOrHasNoFormInTheScheme) {
  EXPECT_THAT(
      quantize("deepseek_v3_fp8", QuantScheme::W8A8).error().message,
      HasSubstr("has a quantization_config already")
  );
  EXPECT_THAT(quantize("gpt_oss", QuantScheme::W8A8).error().message, HasSubstr("--scheme mxfp4"));
  EXPECT_THAT(
      quantize("mixtral", QuantScheme::MxFp4).error().message, HasSubstr("keeps each in its own")
  );
  EXPECT_THAT(
      quantize("nowhere", QuantScheme::W8A8).error().message,
      HasSubstr("nowhere is not a model folder")
  );
}

}  // namespace
}  // namespace pleiad::model
