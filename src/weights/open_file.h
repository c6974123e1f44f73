#pragma once

#include <cstdint>
#include <filesystem>

#include "base/result.h"

namespace pleiad::weights {

// An open regular file. Move-only; closes itself.
class OpenFile {
 public:
  // Opens for reading without ever blocking on a pipe. Fails with NotFound (no such file),
  // InvalidInput (no regular file) or Internal (the system refuses), naming the path.
  static Result<OpenFile> open(const std::filesystem::path& path);

  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&& other) noexcept;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile();

  [[nodiscard]] int descriptor() const { return descriptor_; }
  // Size in bytes when it was opened.
  [[nodiscard]] std::uint64_t size() const { return size_; }

 private:
  explicit OpenFile(int descriptor) : descriptor_(descriptor) {}

  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace pleiad::weights
