#include "engine/load.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_harness.h"

namespace pleiad::engine {
namespace {

namespace fs = std::filesystem;

// A copy of the bundled model in a folder of its own, to be damaged.
class Load : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pleiad-load-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
      fs::copy_file(fable_settings().model / name, folder_ / name);
      fs::permissions(folder_ / name, fs::perms::owner_write, fs::perm_options::add);
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  void replace_in(const char* name, std::string_view from, std::string_view to) {
    std::ifstream in(folder_ / name);
    std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    std::ofstream(folder_ / name) << text;
  }

  std::string refusal(LoadSettings settings) {
    settings.model = folder_;
    const SystemClock clock;
    const auto loaded = load_model(settings, clock);
    return loaded.ok() ? "" : loaded.error().message;
  }
  std::string refusal() { return refusal(fable_settings()); }

  fs::path folder_;
};

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Load, AWholeFolderLoadsAndTellsItsPhases) {
  LoadSettings settings = fable_settings();
  settings.model = folder_;
  std::size_t told = 0;
  settings.progress = [&](std::size_t done, std::size_t total) {
    told = done;
    EXPECT_LE(done, total);
  };
  const SystemClock clock;
  const auto loaded = load_model(settings, clock);

  ASSERT_TRUE(loaded.ok());
  EXPECT_GT(told, 0U);
  EXPECT_EQ(loaded->ranks.front().eos_tokens, (std::vector<TokenId>{1, 5}));
  EXPECT_LT(loaded->scratch.planned, loaded->scratch.naive);
}

TEST_F(Load, NoiseNeedsNoMoreThanAConfig) {
  fs::remove(folder_ / "model.safetensors");
  LoadSettings settings = fable_settings();
  settings.model = folder_;
  settings.dummy_weights = true;
  const SystemClock clock;
  const auto loaded = load_model(settings, clock);
  const auto again = load_model(settings, clock);

  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_GT(loaded->weight_bytes, std::size_t{20} << 20U);
  EXPECT_EQ(loaded->digest, again->digest);
}

TEST_F(Load, NamesTheFileThatIsMissing) {
  fs::remove(folder_ / "config.json");
  EXPECT_TRUE(contains(refusal(), "config.json"));
  fs::remove_all(folder_);
  EXPECT_TRUE(contains(refusal(), "no such directory"));
}

TEST_F(Load, NamesTheTensorThatIsMissingOrMisshapen) {
  replace_in("config.json", "\"num_hidden_layers\": 6", "\"num_hidden_layers\": 9");
  EXPECT_TRUE(contains(refusal(), "model.layers.7"));
  replace_in("config.json", "\"num_hidden_layers\": 9", "\"num_hidden_layers\": 6");
  replace_in("config.json", "\"hidden_size\": 256", "\"hidden_size\": 128");
  EXPECT_TRUE(contains(refusal(), "256"));
}

TEST_F(Load, ATruncatedFileIsCorrupt) {
  fs::resize_file(folder_ / "model.safetensors", 1'000'000);
  EXPECT_TRUE(contains(refusal(), "model.safetensors"));
}

TEST_F(Load, AnUnknownArchitectureIsRefusedByName) {
  replace_in("config.json", "DeepseekV3ForCausalLM", "LlamaForCausalLM");
  EXPECT_TRUE(contains(refusal(), "LlamaForCausalLM"));
}

TEST_F(Load, AnEndTokenBeyondTheVocabularyIsRefused) {
  replace_in("generation_config.json", "5", "4096");
  EXPECT_TRUE(contains(refusal(), "eos_token_id 4096"));
}

TEST_F(Load, SettingsAreHeldToTheirRangesByFlag) {
  LoadSettings settings = fable_settings();
  settings.max_num_seqs = 0;
  EXPECT_TRUE(contains(refusal(settings), "--max-num-seqs"));
  settings = fable_settings();
  settings.max_num_batched_tokens = 8;
  EXPECT_TRUE(contains(refusal(settings), "--max-num-batched-tokens"));
  settings = fable_settings();
  settings.mem_fraction_static = 1.5;
  EXPECT_TRUE(contains(refusal(settings), "--mem-fraction-static"));
  settings = fable_settings();
  settings.max_model_len = 100'000;
  EXPECT_TRUE(contains(refusal(settings), "--max-model-len"));
  settings = fable_settings();
  settings.threads = -1;
  EXPECT_TRUE(contains(refusal(settings), "--threads"));
}

TEST_F(Load, TensorPartsAreHeldToTheirRules) {
  LoadSettings settings = fable_settings();
  settings.layout = {.tp_size = 3, .dp_size = 1, .ep_size = 3};
  EXPECT_TRUE(contains(refusal(settings), "--tp-size"));
  EXPECT_TRUE(contains(refusal(settings), "8 attention heads, nearest valid: 2 and 4"));
  settings.layout = {.tp_size = 2, .dp_size = 1, .ep_size = 2};
  settings.ep.two_batch_overlap = true;
  EXPECT_TRUE(contains(refusal(settings), "--enable-two-batch-overlap with --tp-size 2"));
  settings.ep.two_batch_overlap = false;
  settings.layout.nnodes = 2;
  settings.kv_cache_bytes = 0;
  EXPECT_TRUE(contains(refusal(settings), "--kv-cache-bytes on every node"));
}

// Each process reads the parts of its own ranks.
TEST_F(Load, ANodeHoldsTheTensorPartsOfItsRanks) {
  const SystemClock clock;
  LoadSettings settings = fable_settings();
  settings.layout = {.tp_size = 2, .dp_size = 1, .ep_size = 2};
  const std::size_t both = load_model(settings, clock).value().weight_bytes;
  settings.layout.nnodes = 2;
  const std::size_t one = load_model(settings, clock).value().weight_bytes;

  EXPECT_LT(static_cast<double>(one), 0.65 * static_cast<double>(both));
}

TEST_F(Load, TooLittleMemoryIsToldBeforeAnythingLargeIsTaken) {
  LoadSettings settings = fable_settings();
  settings.mem_fraction_static = 1e-6;
  EXPECT_TRUE(contains(refusal(settings), "--mem-fraction-static"));
}

}  // namespace
}  // namespace pleiad::engine
