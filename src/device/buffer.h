#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"

namespace pleiad::device {

// Zeroed host memory, page-aligned, on huge pages where the kernel grants them. Move-only; freed
// when it goes. An empty buffer has no memory. Pages are touched on first use, not here.
class Buffer {
 public:
  // Fails with Exhausted when the system refuses.
  static Result<Buffer> allocate(std::size_t bytes);

  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  [[nodiscard]] std::byte* data() { return data_; }
  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

  // The buffer as an array of T; a tail shorter than a T is left out.
  template <typename T>
  [[nodiscard]] std::span<T> as() {
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }
  template <typename T>
  [[nodiscard]] std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }

 private:
  Buffer(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Bytes of memory this process may use: the machine's, or the cgroup's limit when that is lower.
std::size_t memory_limit_bytes();
// Bytes the process could still take without swapping, bounded by memory_limit_bytes().
std::size_t memory_available_bytes();

}  // namespace pleiad::device
