#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/grouped_gemm.h"
#include "model/decoder_config.h"
#include "model/decoder_weights.h"
#include "model/load_phases.h"

namespace pleiad::model::cuda {

using kernels::cuda::DeviceMatrix;
using kernels::cuda::GroupedLayout;
using kernels::cuda::GroupedOutput;
using kernels::cuda::GroupedWeights;

// Matrices of one shape and format, one behind the other.
struct MatrixList {
  std::vector<DeviceMatrix> matrices;
  const DeviceMatrix* table = nullptr;  // the same, in GPU memory

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(matrices.size()); }
};

struct GpuMla {
  DeviceMatrix down;
  const float* q_norm = nullptr;
  DeviceMatrix q_up;
  const float* kv_norm = nullptr;
  MatrixList key_up;    // [heads]
  MatrixList value_up;  // [heads]
  DeviceMatrix out;
};

struct GpuGqa {
  DeviceMatrix qkv;
  const float* qkv_bias = nullptr;  // vectors that a model lacks are null
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  const float* sinks = nullptr;
  DeviceMatrix out;
  const float* out_bias = nullptr;
};

struct GpuMlp {
  DeviceMatrix gate_up;
  DeviceMatrix down;
};

struct GpuMoe {
  DeviceMatrix gate;
  const float* logit_bias = nullptr;
  const float* choice_bias = nullptr;
  // The experts' matrices, packed for kernels/cuda/grouped_gemm.h where that takes them (packed is
  // null where not), else one by one.
  GroupedWeights grouped_gate_up;
  GroupedWeights grouped_down;
  MatrixList gate_up;                   // [experts]
  MatrixList down;                      // [experts]
  const float* gate_up_bias = nullptr;  // [experts, 2 * intermediate]
  const float* down_bias = nullptr;     // [experts, hidden]
  // Shared experts stand behind the others in the packed matrices, or else are one MLP.
  std::int64_t shared_experts = 0;
  GpuMlp shared;
};

// A decoder's weights in GPU memory; model/decoder_weights.h has the same on the host.
struct GpuWeights {
  struct Layer {
    const float* input_norm = nullptr;
    const float* post_attention_norm = nullptr;
    std::variant<GpuMla, GpuGqa> attention;
    std::optional<GpuMlp> dense;  // exactly one of dense and moe
    std::optional<GpuMoe> moe;
  };

  DeviceMatrix head;
  const std::byte* embedding = nullptr;  // [vocabulary, hidden]
  device::DType embedding_dtype = device::DType::F32;
  const float* final_norm = nullptr;
  std::vector<Layer> layers;
  device::cuda::DeviceBuffer memory;  // what all of them refer to
  LoadPhases phases;                  // of bringing them there
};

// How many experts of the routed ones' size a layer's shared ones make up, 0 where they make up no
// whole ones or too many for kernels/cuda/grouped_gemm.h. Pure.
std::int64_t grouped_shared_experts(const ep::MoeShape& shape);

// Whether BF16 experts of these sizes fit kernels/cuda/grouped_gemm.h. Pure.
bool experts_fit_grouped_gemm(std::int64_t hidden, std::int64_t intermediate);

struct UploadSettings {
  int readers = 8;  // threads
  std::size_t weight_bytes_max = SIZE_MAX;
  std::function<void(std::size_t done, std::size_t total)> progress;
};

// Brings planned weights from their checkpoint to the GPU that `stream` is of. Waits until they are
// there. Fails with Exhausted when it has no room for them, or like upload().
Result<std::unique_ptr<GpuWeights>> upload_weights(
    const PlannedWeights& planned,
    const weights::Checkpoint& checkpoint,
    device::cuda::Stream& stream,
    const UploadSettings& settings
);

}  // namespace pleiad::model::cuda
