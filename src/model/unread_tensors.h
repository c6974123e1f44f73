#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "weights/checkpoint.h"

namespace pleiad::model {

// Tensors of a checkpoint that nobody reads and nobody needs, counted by what they are.
struct UnreadTensors {
  std::int64_t further_layers = 0;  // of layers beyond the model's, which predict further tokens
  std::int64_t frequencies = 0;     // of rotary embeddings, which the config says as well
  std::int64_t cache_scales = 0;    // for keys and values in eight bits; ours have more
  std::int64_t tied_heads = 0;      // copies of the embedding, where the config ties the head to it
  std::int64_t outside = 0;         // beside the decoder, such as an image encoder
};

// Holds the checkpoint to the names that a model with `layers` layers reads, ascending and as they
// are without quantisation. Fails with Unsupported, naming the tensor and what stands in its place,
// at one that the list above does not excuse: an unknown bias, norm or projection of a layer that
// is computed, or scales and codes that do not belong to how their matrix is stored. Leaving such a
// tensor out would give other answers than the model's. Reads names and dtypes only.
Result<UnreadTensors> check_unread_tensors(
    const weights::Checkpoint& checkpoint,
    std::span<const std::string> read,
    std::int64_t layers
);

}  // namespace pleiad::model
