#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "base/result.h"
#include "weights/open_file.h"

namespace pleiad::weights {

// A regular file mapped read-only. Move-only; the bytes live as long as it does. Reading past an
// end that moved down after open() ends the process, so the file must not shrink.
class MappedFile {
 public:
  // Fails with NotFound (no such file), InvalidInput (no regular file) or Internal (the system
  // refuses), naming the path.
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  // Reads the bytes from `offset` on into `out`, without the mapping: no page of it is touched, and
  // a file that shrank is an error. Fails with Corrupt at an early end, with Internal when the
  // system refuses. Any thread. REQUIRES: they lie in bytes().
  Result<void> read(std::size_t offset, std::span<std::byte> out) const;

 private:
  MappedFile(OpenFile file, std::span<const std::byte> bytes)
      : file_(std::move(file)), bytes_(bytes) {}

  std::optional<OpenFile> file_;
  std::span<const std::byte> bytes_;
};

// Tells the kernel that a part of a mapping will be read soon, so that it reads ahead. Advice only.
void advise_needed(std::span<const std::byte> part);
// Gives the whole pages inside `part` back; a later read fetches them from the file again.
void advise_unneeded(std::span<const std::byte> part);

}  // namespace pleiad::weights
