#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

// A slow second implementation of every family, for tests: plain loops in double over whole
// sequences, written from the families' published definitions and sharing nothing with the model's
// parsers and kernels.
namespace pleiad::model::reference {

enum class Family { DeepseekV2, DeepseekV3, Qwen3Moe, Mixtral, Glm4Moe, GptOss };

struct Rope {
  std::int64_t width = 0;  // turned elements of a head, the first ones of GQA's
  double theta = 0;
  double factor = 1;  // above 1: YaRN
  double original_positions = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;
  double magnitude = 1;     // of cosines and sines
  bool interleaved = true;  // pairs (2i, 2i + 1), else (i, i + width / 2)
};

// Multi-head latent attention, of the DeepSeek families.
struct Latent {
  std::int64_t q_rank = 0;  // 0: one projection without a norm
  std::int64_t kv_rank = 0;
  std::int64_t nope = 0;
  std::int64_t value = 0;
};

struct Experts {
  std::int64_t count = 0;
  std::int64_t topk = 0;
  std::int64_t width = 0;
  std::int64_t shared_width = 0;  // 0: none
  std::int64_t groups = 1;
  std::int64_t topk_groups = 1;
  bool normalise = true;
  double scale = 1;
};

struct Layer {
  bool moe = true;
  std::int64_t window = 0;  // positions that a query sees, its own among them; 0: all
};

struct Config {
  Family family = Family::DeepseekV3;
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 0;
  std::int64_t dense_width = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head = 0;  // of GQA
  double eps = 0;
  double score_scale = 0;
  double activation_limit = 0;  // of GPT-OSS
  bool tied = false;
  bool qk_norm = false;
  bool qkv_bias = false;
  bool out_bias = false;
  Rope rope;
  Latent latent;
  Experts experts;
  std::vector<Layer> layers;

  [[nodiscard]] bool is_deepseek() const {
    return family == Family::DeepseekV2 || family == Family::DeepseekV3;
  }
};

// Reads a config.json in the spelling of published checkpoints or of transformers 5
// (rope_parameters). Ends the test program when a needed key is missing.
Config read_config(const Json& json);

// "model.layers.{layer}.".
std::string layer_prefix(std::size_t layer);

}  // namespace pleiad::model::reference
