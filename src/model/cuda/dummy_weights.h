#pragma once

#include <memory>

#include "model/cuda/gpu_weights.h"
#include "model/decoder_config.h"

namespace pleiad::model::cuda {

// Weights of the config's shapes filled with noise on the GPU itself, for trials of speed and
// capacity without a checkpoint: BF16 under Compute::BFloat16, float under Float32. Biases are
// zero, norms one. Fails with Exhausted when there is no room.
Result<std::unique_ptr<GpuWeights>> make_dummy_weights(
    const DecoderConfig& config,
    kernels::Compute compute,
    device::cuda::Stream& stream
);

}  // namespace pleiad::model::cuda
