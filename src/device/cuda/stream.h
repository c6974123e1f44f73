#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <driver_types.h>

#include "base/result.h"

namespace pleiad::device::cuda {

// Work of one GPU in order of its enqueueing, and the first thing that went wrong with it. Used by
// one thread at a time, which must have chosen the GPU (cudaSetDevice). Move-only.
class Stream {
 public:
  struct Options {
    int gpu = 0;
    // Waits after every launch, so that an error names the op that made it. Slow.
    bool wait_after_each = false;
  };
  static Result<Stream> create(const Options& options);

  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  [[nodiscard]] cudaStream_t handle() const { return handle_; }
  [[nodiscard]] int gpu() const { return options_.gpu; }

  // Called by every op behind its launch: keeps the first launch that failed, with the op's name
  // and shape.
  void launched(std::string_view op, std::int64_t rows, std::int64_t width);
  // The first failed launch or call since the last result().
  Result<void> result();
  // Waits until all work is done. Fails with what result() says, or with what a kernel did; then
  // the device is lost to this process.
  Result<void> wait(std::string_view doing);

  // Copies, in order with the rest; host memory that is not pinned makes them wait.
  void copy_to_device(void* to, const void* from, std::size_t bytes);
  // `lines.rows` rows of `lines.bytes`, dense on the host, `stride` bytes apart on the GPU.
  struct Lines {
    std::size_t rows = 0;
    std::size_t bytes = 0;
  };
  void copy_rows_to_device(void* to, std::size_t stride, const void* from, const Lines& lines);
  void copy_to_host(void* to, const void* from, std::size_t bytes);
  void copy_on_device(void* to, const void* from, std::size_t bytes);
  void fill(void* to, int byte, std::size_t bytes);

 private:
  Stream(const Options& options, cudaStream_t handle) : options_(options), handle_(handle) {}
  void note(cudaError_t status, std::string_view op, std::int64_t rows, std::int64_t width);

  Options options_;
  cudaStream_t handle_ = nullptr;
  std::optional<Error> failure_;
};

// A point in a stream's work, for measuring time on the device. Move-only.
class Event {
 public:
  static Result<Event> create();

  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  Result<void> record(const Stream& stream);
  Result<void> wait();
  // Milliseconds from `begin` to this event. REQUIRES: both were recorded; waits for this one.
  Result<double> milliseconds_since(const Event& begin);

 private:
  explicit Event(cudaEvent_t handle) : handle_(handle) {}

  cudaEvent_t handle_ = nullptr;
};

}  // namespace pleiad::device::cuda
