#include "device/buffer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace pleiad::device {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20U;

// The first number of a one-line file such as a cgroup limit, or nothing ("max", no file).
std::optional<std::size_t> number_in(const char* path) {
  std::ifstream in(path);
  std::size_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

std::optional<std::size_t> meminfo_bytes(std::string_view key) {
  std::ifstream in("/proc/meminfo");
  std::string name;
  std::string unit;
  std::size_t kib = 0;
  while (in >> name >> kib && std::getline(in, unit)) {
    if (name == key) return kib * 1024;
  }
  return std::nullopt;
}

}  // namespace

Result<Buffer> Buffer::allocate(std::size_t bytes) {
  if (bytes == 0) return Buffer();
  void* memory = mmap(
      nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
  );
  if (memory == MAP_FAILED) {
    return exhausted("cannot map {} bytes: {}", bytes, std::system_category().message(errno));
  }
  // Advice only: without huge pages everything works, slower.
  if (bytes >= kHugePageBytes) madvise(memory, bytes, MADV_HUGEPAGE);
  return Buffer(static_cast<std::byte*>(memory), bytes);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) munmap(data_, size_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

std::size_t memory_limit_bytes() {
  const auto pages = static_cast<std::size_t>(std::max(0L, sysconf(_SC_PHYS_PAGES)));
  const auto page_bytes = static_cast<std::size_t>(std::max(1L, sysconf(_SC_PAGESIZE)));
  const std::size_t physical = pages * page_bytes;
  const auto cgroup = number_in("/sys/fs/cgroup/memory.max");
  return std::min(physical, cgroup.value_or(physical));
}

std::size_t memory_available_bytes() {
  const std::size_t limit = memory_limit_bytes();
  std::size_t available = meminfo_bytes("MemAvailable:").value_or(limit);
  const auto used = number_in("/sys/fs/cgroup/memory.current");
  const auto cgroup = number_in("/sys/fs/cgroup/memory.max");
  if (used && cgroup) available = std::min(available, *cgroup > *used ? *cgroup - *used : 0);
  return std::min(available, limit);
}

}  // namespace pleiad::device
