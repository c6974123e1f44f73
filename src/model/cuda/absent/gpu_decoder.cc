// A build without the CUDA backend.
#include "model/cuda/gpu_decoder.h"

#include "device/cuda/gpus.h"

namespace pleiad::model::cuda {

Result<std::unique_ptr<ModelWeights>>
load_gpu_decoder(const DecoderConfig&, const weights::Checkpoint&, const LoadOptions& options) {
  return device::cuda::find_gpu(options.gpu.value_or(0)).error();
}

Result<std::unique_ptr<ModelWeights>>
make_dummy_gpu_decoder(const DecoderConfig&, Compute, int gpu) {
  return device::cuda::find_gpu(gpu).error();
}

}  // namespace pleiad::model::cuda
