#include "weights/repeated_memory.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace pleiad::weights {
namespace {

Error refused(int code) {
  return internal_error("cannot repeat memory: {}", std::system_category().message(code));
}

// Puts the block of `descriptor` at every block of the range.
bool map_blocks(int descriptor, std::span<std::byte> range) {
  for (std::size_t at = 0; at < range.size(); at += RepeatedMemory::kBlockBytes) {
    void* placed = mmap(
        range.data() + at,
        RepeatedMemory::kBlockBytes,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_FIXED,
        descriptor,
        0
    );
    if (placed == MAP_FAILED) return false;
  }
  return true;
}

}  // namespace

Result<RepeatedMemory> RepeatedMemory::create(std::size_t bytes) {
  const std::size_t blocks = std::max<std::size_t>(1, (bytes + kBlockBytes - 1) / kBlockBytes);
  const int descriptor = memfd_create("pleiad-noise", MFD_CLOEXEC);
  if (descriptor < 0) return refused(errno);
  int failure = ftruncate(descriptor, static_cast<off_t>(kBlockBytes)) == 0 ? 0 : errno;
  void* range = MAP_FAILED;
  if (failure == 0) {
    range = mmap(
        nullptr, blocks * kBlockBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    );
    if (range == MAP_FAILED) failure = errno;
  }
  if (failure != 0) {
    close(descriptor);
    return refused(failure);
  }
  RepeatedMemory memory({static_cast<std::byte*>(range), blocks * kBlockBytes});
  if (!map_blocks(descriptor, memory.bytes_)) failure = errno;
  close(descriptor);
  if (failure != 0) return refused(failure);
  return memory;
}

RepeatedMemory::RepeatedMemory(RepeatedMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})) {}

RepeatedMemory& RepeatedMemory::operator=(RepeatedMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

RepeatedMemory::~RepeatedMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace pleiad::weights
