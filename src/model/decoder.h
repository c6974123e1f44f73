#pragma once

#include <memory>

#include "model/decoder_config.h"
#include "model/model.h"

namespace pleiad::model {

// The one decoder-only transformer that all families are instances of. Multi-head latent attention
// runs in absorbed form for every token (docs/decisions/0002).
// Of one of so many tensor parts. REQUIRES: they divide the heads (plan::check_heads).
ModelShape
shape_of(const DecoderConfig& config, kernels::Compute compute, std::int32_t tensor_parts);

// Fails with what the checkpoint lacks: the tensor, its shape or dtype, what was wanted.
Result<std::unique_ptr<ModelWeights>> load_decoder(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

}  // namespace pleiad::model
