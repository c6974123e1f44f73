#pragma once

#include <memory>

#include "model/decoder_config.h"
#include "model/model.h"

namespace pleiad::model {

// The one decoder-only transformer that all families are instances of. Multi-head latent attention
// runs in absorbed form for every token (docs/decisions/0002).
ModelShape shape_of(const DecoderConfig& config, kernels::Compute compute);

// Fails with what the checkpoint lacks: the tensor, its shape or dtype, what was wanted.
Result<std::unique_ptr<ModelWeights>> load_decoder(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

}  // namespace pleiad::model
