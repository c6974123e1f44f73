#pragma once

#include <span>
#include <vector>

#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"
#include "tests/kernels/support.h"

// Arrays in GPU memory for tests, and rows of activations of either type.
namespace pleiad::kernels::cuda::testing {

using kernels::testing::largest_difference;
using kernels::testing::poison;
using kernels::testing::random_floats;
using kernels::testing::same_bits;

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::span<const T> values)
      : size_(values.size()),
        memory_(device::cuda::DeviceBuffer::allocate(values.size_bytes(), "a test").value()) {
    device::cuda::Stream stream = device::cuda::Stream::create({}).value();
    stream.copy_to_device(memory_.data(), values.data(), values.size_bytes());
    stream.wait("a copy").value();
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(std::span<const T>(values)) {}

  [[nodiscard]] T* data() const { return memory_.as<T>(); }
  // The values once everything enqueued so far is done.
  [[nodiscard]] std::vector<T> values(device::cuda::Stream& stream) const {
    std::vector<T> out(size_);
    stream.copy_to_host(out.data(), memory_.data(), size_ * sizeof(T));
    stream.wait("a copy").value();
    return out;
  }

 private:
  std::size_t size_;
  device::cuda::DeviceBuffer memory_;
};

// Rows of floats, or of BF16s, as an op takes them.
class DeviceActivations {
 public:
  DeviceActivations(std::span<const float> values, std::int64_t stride, device::DType dtype)
      : stride_(stride),
        dtype_(dtype),
        memory_(std::span<const std::byte>(stored(values, dtype))) {}

  [[nodiscard]] DeviceRows rows() const {
    return {.data = memory_.data(), .stride = stride_, .dtype = dtype_};
  }
  [[nodiscard]] std::vector<float> values(device::cuda::Stream& stream) const {
    const std::vector<std::byte> bytes = memory_.values(stream);
    std::vector<float> out(bytes.size() / device::size_of(dtype_));
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (dtype_ == device::DType::F32) {
        out[i] = reinterpret_cast<const float*>(bytes.data())[i];
      } else {
        out[i] = device::bf16_to_float(reinterpret_cast<const device::BF16*>(bytes.data())[i]);
      }
    }
    return out;
  }

 private:
  static std::vector<std::byte> stored(std::span<const float> values, device::DType dtype) {
    std::vector<std::byte> out(values.size() * device::size_of(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (dtype == device::DType::F32) {
        reinterpret_cast<float*>(out.data())[i] = values[i];
      } else {
        reinterpret_cast<device::BF16*>(out.data())[i] = device::float_to_bf16(values[i]);
      }
    }
    return out;
  }

  std::int64_t stride_;
  device::DType dtype_;
  DeviceArray<std::byte> memory_;
};

inline device::DType activation_of(Compute compute) {
  return compute == Compute::Float32 ? device::DType::F32 : device::DType::BF16;
}

// A packed matrix as it lies on the GPU.
class UploadedMatrix {
 public:
  explicit UploadedMatrix(const PackedMatrix& source) {
    const DeviceMatrix size = plan_device_matrix(source.outputs(), source.layout());
    memory_ = device::cuda::DeviceBuffer::allocate(device_matrix_bytes(size), "a test").value();
    matrix_ = plan_device_matrix(source.outputs(), source.layout(), memory_.data());
    const auto bytes = static_cast<std::size_t>(source.panels()) * source.panel_bytes();
    const DeviceArray<std::byte> panels(std::span(source.panel(0), bytes));
    device::cuda::Stream stream = device::cuda::Stream::create({}).value();
    place_panels(
        stream,
        {.panels = panels.data(),
         .layout = source.layout(),
         .panel_count = source.panels(),
         .matrix = matrix_}
    );
    stream.wait("placing panels").value();
  }

  [[nodiscard]] const DeviceMatrix& matrix() const { return matrix_; }

 private:
  device::cuda::DeviceBuffer memory_;
  DeviceMatrix matrix_;
};

inline device::cuda::Stream test_stream() {
  return device::cuda::Stream::create({.wait_after_each = true}).value();
}

}  // namespace pleiad::kernels::cuda::testing
