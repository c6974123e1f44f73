#pragma once

#include "model/model.h"

namespace pleiad::model {

// DeepSeek-V3 (arXiv 2412.19437), with its kin R1, V3.1 and Kimi-K2: multi-head latent attention
// with or without a low-rank query, YaRN, leading dense layers, then mixture-of-experts layers with
// a sigmoid gate, correction bias, group-limited top-k and shared experts. Attention runs in
// absorbed form for every token (docs/decisions/0002).
Result<ModelShape> deepseek_v3_shape(const Json& config, kernels::Compute compute);

// Fails with what the config or the checkpoint lacks: the key or tensor, its value, what is
// supported.
Result<std::unique_ptr<ModelWeights>> load_deepseek_v3(
    const Json& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

}  // namespace pleiad::model
