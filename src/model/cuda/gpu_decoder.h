#pragma once

#include <memory>

#include "model/decoder_config.h"
#include "model/model.h"

namespace pleiad::model::cuda {

// model/decoder.h on one GPU: the same layers in the same order, activations in GPU memory. Steps
// of few rows are recorded once per number of rows and then launched as a whole. Ranks are alone:
// with peers make_rank() fails.
//
// Fails as load_decoder() does, with NotFound when there is no GPU `options.gpu`, Unsupported when
// it cannot run the kernels or this build has none, Exhausted when its memory is too small.
Result<std::unique_ptr<ModelWeights>> load_gpu_decoder(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

// The same with noise for weights (dummy_weights.h).
Result<std::unique_ptr<ModelWeights>>
make_dummy_gpu_decoder(const DecoderConfig& config, Compute compute, int gpu);

}  // namespace pleiad::model::cuda
