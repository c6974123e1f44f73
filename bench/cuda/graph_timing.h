#pragma once

#include <algorithm>
#include <vector>

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/stream.h"

// How long launches take when a graph holds many of them, so that the host is not in the way.
namespace pleiad::bench {

struct Timing {
  double median_us = 0;
  double least_us = 0;
  double most_us = 0;
};

inline void check(cudaError_t status) {
  PLEIAD_CHECK(status == cudaSuccess, cudaGetErrorString(status));
}

// Replays a graph of `launches` and divides.
template <class Enqueue>
Timing time_graph(device::cuda::Stream& stream, int launches, int replays, const Enqueue& enqueue) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) {
    enqueue(i);
  }
  check(cudaStreamEndCapture(stream.handle(), &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  auto begin = device::cuda::Event::create().value();
  auto end = device::cuda::Event::create().value();
  std::vector<double> times;
  for (int i = -2; i < replays; ++i) {
    begin.record(stream).value();
    check(cudaGraphLaunch(executable, stream.handle()));
    end.record(stream).value();
    const double us = end.milliseconds_since(begin).value() * 1e3 / launches;
    if (i >= 0) times.push_back(us);
  }
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front(), times.back()};
}

}  // namespace pleiad::bench
