#pragma once

#include <driver_types.h>

#include "base/result.h"
#include "device/cuda/stream.h"

namespace pleiad::device::cuda {

// A step's work, recorded once and launched with one call. What it reads and writes are addresses:
// they must stay, and whatever differs between launches lies in device memory. Move-only.
class Graph {
 public:
  // Records what `enqueue` puts into `stream` instead of running it. `enqueue` must not wait,
  // allocate, or copy from memory that is not pinned. Fails with what it says, or when recording
  // broke.
  template <typename Enqueue>
  static Result<Graph> record(Stream& stream, Enqueue&& enqueue) {
    PLEIAD_TRY(begin(stream));
    Result<void> enqueued = enqueue();
    return end(stream, std::move(enqueued));
  }

  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();

  // Enqueues all of it.
  void launch(Stream& stream) const;

 private:
  explicit Graph(cudaGraphExec_t handle) : handle_(handle) {}
  static Result<void> begin(Stream& stream);
  static Result<Graph> end(Stream& stream, Result<void> enqueued);

  cudaGraphExec_t handle_ = nullptr;
};

}  // namespace pleiad::device::cuda
