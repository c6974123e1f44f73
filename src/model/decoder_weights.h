#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "device/buffer.h"
#include "device/tensor_view.h"
#include "ep/moe_weights.h"
#include "kernels/packed_matrix.h"
#include "model/decoder_config.h"
#include "model/dense_mlp.h"
#include "model/gqa_layer.h"
#include "model/mla_layer.h"
#include "model/model.h"
#include "model/weight_loader.h"

namespace pleiad::model {

// The packed weights of a decoder's checkpoint, as far as this process holds them.
struct DecoderWeights {
  // What one tensor part has of a layer.
  struct LayerPart {
    std::variant<MlaWeights, GqaWeights> attention;  // of the kind that the config says
    std::optional<DenseMlpWeights> dense;            // in layers without experts
  };
  struct Layer {
    std::vector<float> input_norm;           // [hidden]
    std::vector<float> post_attention_norm;  // [hidden]
    std::vector<LayerPart> parts;            // [tensor_parts]; empty where not held
    std::optional<ep::MoeWeights> moe;       // exactly one of dense and moe
  };

  std::vector<kernels::PackedMatrix> heads;  // [tensor_parts] of [part of vocabulary, hidden]
  device::TensorView embedding;              // [vocabulary, hidden]
  std::vector<float> final_norm;             // [hidden]
  std::vector<Layer> layers;
  device::Buffer packed;            // what the matrices refer to
  device::Buffer embedding_memory;  // what `embedding` refers to
};

// All tensors that the model reads, by name, ascending, as they are without quantisation.
std::vector<TensorWish> tensor_wishes(const DecoderConfig& config);
std::vector<std::string> tensor_names(const DecoderConfig& config);

// Checks that the checkpoint has every tensor of the model in its shape, and none that the model
// should read but does not (unread_tensors.h); the bytes that packed weights will take. Reads
// headers and scales only.
Result<std::size_t> check_decoder_weights(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

// Reads and packs. Boxed, since the loader's destinations must stay where they are. Fails with the
// first tensor that is missing, misshapen or left over, or Exhausted.
Result<std::unique_ptr<DecoderWeights>> load_decoder_weights(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

// A decoder's weights before their numbers are read: shapes, small vectors, and where the numbers
// of each matrix stand. The embedding is the checkpoint's own.
struct PlannedWeights {
  DecoderWeights weights;
  std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin> origins;
};

// Checks like load_decoder_weights() and reads vectors, but no matrix. Boxed for the same reason.
Result<std::unique_ptr<PlannedWeights>> plan_decoder_weights(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
);

}  // namespace pleiad::model
