#pragma once

#include <memory>

#include "base/result.h"
#include "kernels/context.h"
#include "model/decoder_config.h"
#include "weights/checkpoint.h"

namespace pleiad::model {

// A checkpoint with every tensor of the config in its shape and format, and noise for numbers
// (weights/noise_tensor.h): for trials of speed and capacity from a config.json alone. What is not
// quantised is BF16, or F32 to compute in float32. Products keep the size of what they are given;
// norms are one, biases zero.
Result<std::unique_ptr<weights::Checkpoint>>
make_dummy_checkpoint(const DecoderConfig& config, kernels::Compute compute);

}  // namespace pleiad::model
