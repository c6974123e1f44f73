#pragma once

#include <cstdint>
#include <filesystem>

#include "base/result.h"
#include "engine/load.h"
#include "plan/model_facts.h"

namespace pleiad::apps {

struct ModelFactsRequest {
  std::filesystem::path model;
  engine::ComputeChoice dtype = engine::ComputeChoice::Auto;
  std::int64_t step_rows = 512;   // --max-num-batched-tokens
  std::int64_t logit_rows = 128;  // --max-num-seqs
};

// Reads what planning needs from a checkpoint's config.json and tensor headers; weights are not
// touched. Tensors named like experts are routed weights, all others stand on every rank; layers
// beyond num_hidden_layers are left out, as serving does. Bytes are those of packed weights.
// Scratch is an estimate, from the sizes of activations. Fails as loading the model would.
Result<plan::ModelFacts> read_model_facts(const ModelFactsRequest& request);

}  // namespace pleiad::apps
