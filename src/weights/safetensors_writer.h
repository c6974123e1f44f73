#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/tensor_view.h"

namespace pleiad::weights {

// A tensor that a file will hold.
struct TensorPlan {
  std::string name;
  device::DType dtype = device::DType::F32;
  device::Shape shape;

  [[nodiscard]] std::uint64_t bytes() const;
};

// Writes one safetensors file, tensor after tensor, without holding more than one piece of one. The
// file stands under a temporary name until finish(): a file of the final name is always whole. One
// thread at a time.
class SafetensorsWriter {
 public:
  // Creates `path` + ".part", or empties it, and writes the header. Fails with Internal when the
  // system refuses, naming the path.
  static Result<SafetensorsWriter>
  create(const std::filesystem::path& path, const std::vector<TensorPlan>& tensors);

  // The next bytes of the data, in the order of the plan.
  Result<void> append(std::span<const std::byte> bytes);
  // Everything is on the disk under its final name. Fails with InvalidInput when bytes are missing.
  Result<void> finish();

  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();

 private:
  SafetensorsWriter(std::filesystem::path path, int file, std::uint64_t data_bytes)
      : path_(std::move(path)), file_(file), left_(data_bytes) {}

  std::filesystem::path path_;  // the final one
  int file_ = -1;
  std::uint64_t left_ = 0;  // bytes of data that are still to come
};

// Whether `path` is a whole file of exactly these tensors.
bool holds_tensors(const std::filesystem::path& path, const std::vector<TensorPlan>& tensors);

}  // namespace pleiad::weights
