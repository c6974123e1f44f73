#include "device/cuda/graph.h"

#include <utility>

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_error.h"

namespace pleiad::device::cuda {

Result<void> Graph::begin(Stream& stream) {
  PLEIAD_TRY(stream.result());
  return checked(
      cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal), "recording a graph"
  );
}

Result<Graph> Graph::end(Stream& stream, Result<void> enqueued) {
  cudaGraph_t recorded = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream.handle(), &recorded);
  cudaGraphExec_t handle = nullptr;
  cudaError_t made = cudaSuccess;
  if (ended == cudaSuccess && recorded != nullptr) {
    made = cudaGraphInstantiate(&handle, recorded, 0);
    static_cast<void>(cudaGraphDestroy(recorded));
  }
  PLEIAD_TRY(std::move(enqueued));
  PLEIAD_TRY(stream.result());
  PLEIAD_TRY(checked(ended, "recording a graph"));
  PLEIAD_TRY(checked(made, "making a graph ready"));
  return Graph(handle);
}

Graph::Graph(Graph&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Graph::~Graph() {
  if (handle_ != nullptr) static_cast<void>(cudaGraphExecDestroy(handle_));
}

void Graph::launch(Stream& stream) const {
  static_cast<void>(cudaGraphLaunch(handle_, stream.handle()));
  stream.launched("launching a recorded step", 1, 1);
}

}  // namespace pleiad::device::cuda
