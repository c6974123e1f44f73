#include "device/cuda/stream.h"

#include <utility>

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_error.h"

namespace pleiad::device::cuda {

Result<Stream> Stream::create(const Options& options) {
  PLEIAD_TRY(checked(cudaSetDevice(options.gpu), "choosing the GPU"));
  cudaStream_t handle = nullptr;
  PLEIAD_TRY(checked(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "creating a stream")
  );
  return Stream(options, handle);
}

Stream::Stream(Stream&& other) noexcept
    : options_(other.options_),
      handle_(std::exchange(other.handle_, nullptr)),
      failure_(std::move(other.failure_)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(options_, other.options_);
  std::swap(handle_, other.handle_);
  std::swap(failure_, other.failure_);
  return *this;
}

Stream::~Stream() {
  if (handle_ != nullptr) static_cast<void>(cudaStreamDestroy(handle_));
}

void Stream::note(cudaError_t status, std::string_view op, std::int64_t rows, std::int64_t width) {
  if (status == cudaSuccess || failure_) return;
  failure_ = checked(status, fmt::format("{} [{}, {}]", op, rows, width)).error();
}

void Stream::launched(std::string_view op, std::int64_t rows, std::int64_t width) {
  note(cudaPeekAtLastError(), op, rows, width);
  if (options_.wait_after_each) note(cudaStreamSynchronize(handle_), op, rows, width);
}

Result<void> Stream::result() {
  if (!failure_) return {};
  Error failure = *std::move(failure_);
  failure_.reset();
  return failure;
}

Result<void> Stream::wait(std::string_view doing) {
  const cudaError_t status = cudaStreamSynchronize(handle_);
  PLEIAD_TRY(result());
  return checked(status, doing);
}

void Stream::copy_to_device(void* to, const void* from, std::size_t bytes) {
  const auto status = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, handle_);
  note(status, "copy to the GPU", 1, static_cast<std::int64_t>(bytes));
}

void Stream::copy_rows_to_device(
    void* to,
    std::size_t stride,
    const void* from,
    const Lines& lines
) {
  if (stride == lines.bytes) {
    copy_to_device(to, from, lines.rows * lines.bytes);
    return;
  }
  const auto status = cudaMemcpy2DAsync(
      to, stride, from, lines.bytes, lines.bytes, lines.rows, cudaMemcpyHostToDevice, handle_
  );
  note(
      status,
      "copy rows to the GPU",
      static_cast<std::int64_t>(lines.rows),
      static_cast<std::int64_t>(lines.bytes)
  );
}

void Stream::copy_to_host(void* to, const void* from, std::size_t bytes) {
  const auto status = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, handle_);
  note(status, "copy from the GPU", 1, static_cast<std::int64_t>(bytes));
}

void Stream::copy_on_device(void* to, const void* from, std::size_t bytes) {
  const auto status = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, handle_);
  note(status, "copy on the GPU", 1, static_cast<std::int64_t>(bytes));
}

void Stream::fill(void* to, int byte, std::size_t bytes) {
  const auto status = cudaMemsetAsync(to, byte, bytes, handle_);
  note(status, "fill", 1, static_cast<std::int64_t>(bytes));
}

Result<Event> Event::create() {
  cudaEvent_t handle = nullptr;
  PLEIAD_TRY(checked(cudaEventCreate(&handle), "creating an event"));
  return Event(handle);
}

Event::Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Event::~Event() {
  if (handle_ != nullptr) static_cast<void>(cudaEventDestroy(handle_));
}

Result<void> Event::record(const Stream& stream) {
  return checked(cudaEventRecord(handle_, stream.handle()), "recording an event");
}

Result<void> Event::wait() {
  return checked(cudaEventSynchronize(handle_), "waiting for an event");
}

Result<double> Event::milliseconds_since(const Event& begin) {
  PLEIAD_TRY(wait());
  float milliseconds = 0.0F;
  PLEIAD_TRY(checked(
      cudaEventElapsedTime(&milliseconds, begin.handle_, handle_), "measuring time between events"
  ));
  return static_cast<double>(milliseconds);
}

}  // namespace pleiad::device::cuda
