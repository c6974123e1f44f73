#include "apps/model_facts_reader.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"

namespace pleiad::apps {
namespace {

using testing::HasSubstr;

ModelFactsRequest fable() {
  return {.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable"};
}

TEST(ModelFactsReader, CountsTheBundledModel) {
  const plan::ModelFacts facts = read_model_facts(fable()).value();

  EXPECT_EQ(facts.name, "fable");
  EXPECT_EQ(facts.layers, 6);
  EXPECT_EQ(facts.moe_layers, 5);
  EXPECT_EQ(facts.hidden, 256);
  EXPECT_EQ(facts.experts, 32);
  EXPECT_EQ(facts.topk, 4);
  EXPECT_EQ(facts.attention_heads, 8);
  EXPECT_EQ(facts.activation_bytes, 2);
  EXPECT_EQ(facts.expert_bytes, 3 * 256 * 64 * 2);
  EXPECT_EQ(facts.kv_bytes_per_token, 6 * (64 + 16) * 2);
  EXPECT_EQ(facts.dense_bytes - facts.dense_step_bytes, 4096 * 256 * 2);
}

TEST(ModelFactsReader, Float32HoldsTwiceTheBytes) {
  ModelFactsRequest request = fable();
  const plan::ModelFacts narrow = read_model_facts(request).value();
  request.dtype = engine::ComputeChoice::Float32;
  const plan::ModelFacts wide = read_model_facts(request).value();

  EXPECT_EQ(wide.expert_bytes, 2 * narrow.expert_bytes);
  EXPECT_EQ(wide.kv_bytes_per_token, 2 * narrow.kv_bytes_per_token);
  EXPECT_EQ(wide.activation_bytes, 4);
}

TEST(ModelFactsReader, AgreesWithTheLoadedModel) {
  const ModelFactsRequest request = fable();
  const plan::ModelFacts facts = read_model_facts(request).value();
  const SystemClock clock;
  engine::LoadSettings settings{.model = request.model, .kv_cache_bytes = std::size_t{4} << 20U};
  const auto loaded = engine::load_model(settings, clock).value();

  const std::int64_t packed =
      facts.dense_bytes + facts.experts * facts.moe_layers * facts.expert_bytes;
  const double weights = static_cast<double>(loaded.weight_bytes);
  EXPECT_NEAR(static_cast<double>(packed) / weights, 1.0, 0.02);
  const std::int64_t logits = request.logit_rows * facts.vocabulary * 4;
  const double scratch = static_cast<double>(loaded.scratch.planned);
  EXPECT_NEAR(static_cast<double>(facts.scratch_bytes - logits) / scratch, 1.1, 0.1);
}

TEST(ModelFactsReader, NamesWhatIsMissing) {
  EXPECT_THAT(
      read_model_facts({.model = "/no/such/model"}).error().message, HasSubstr("/no/such/model")
  );
  EXPECT_FALSE(read_model_facts({.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "docs"}).ok());
}

TEST(ModelFactsReader, AFolderWithASlashAtTheEndHasTheSameName) {
  ModelFactsRequest request = fable();
  request.model /= "";
  EXPECT_EQ(read_model_facts(request).value().name, "fable");
}

}  // namespace
}  // namespace pleiad::apps
