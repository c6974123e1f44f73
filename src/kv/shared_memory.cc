#include "kv/shared_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/random.h"

namespace pleiad::kv {
namespace {

// In front of what is shared: the token, alone on a page.
constexpr std::size_t kFrontBytes = 4096;
constexpr std::size_t kTokenBytes = 32;
// Nobody can make the memory shorter under its readers.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

std::string reason() {
  return std::system_category().message(errno);
}

// Closes a descriptor on the way out.
struct Closing {
  int file = -1;
  ~Closing() {
    if (file >= 0) ::close(file);
  }
};

}  // namespace

std::string machine_name() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat space {};
  if (boot.empty() || ::stat("/proc/self/ns/pid", &space) != 0) return "";
  return fmt::format("{:016x}", hash64(fmt::format("{} {} {}", boot, space.st_dev, space.st_ino)));
}

Result<std::unique_ptr<SharedMemory>> SharedMemory::allocate(std::size_t bytes) {
  auto memory = std::unique_ptr<SharedMemory>(new SharedMemory());
  memory->file_ = ::memfd_create("pleiad-kv", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory->file_ < 0) return exhausted("no file for shared memory: {}", reason());
  const std::size_t all = kFrontBytes + bytes;
  if (::ftruncate(memory->file_, static_cast<off_t>(all)) != 0 ||
      ::fcntl(memory->file_, F_ADD_SEALS, kSeals) != 0) {
    return exhausted("{} bytes of shared memory: {}", all, reason());
  }
  void* map =
      ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory->file_, 0);
  if (map == MAP_FAILED) return exhausted("cannot map {} shared bytes: {}", all, reason());
  memory->map_ = static_cast<std::byte*>(map);
  memory->map_bytes_ = all;
  // Advice only, as for other memory.
  ::madvise(map, all, MADV_HUGEPAGE);
  memory->name_ = {
      .machine = machine_name(),
      .process = ::getpid(),
      .file = memory->file_,
      .bytes = bytes,
      .token = fmt::format("{:016x}{:016x}", entropy_seed(), entropy_seed()),
  };
  std::memcpy(memory->map_, memory->name_.token.data(), kTokenBytes);
  return memory;
}

SharedMemory::~SharedMemory() {
  if (map_ != nullptr) ::munmap(map_, map_bytes_);
  if (file_ >= 0) ::close(file_);
}

std::byte* SharedMemory::data() {
  return map_ + kFrontBytes;
}

Result<std::unique_ptr<MappedMemory>> MappedMemory::open(const SharedName& name) {
  if (name.machine.empty() || name.machine != machine_name()) {
    return unavailable("the memory is on another machine");
  }
  if (name.token.size() != kTokenBytes || name.bytes > (std::uint64_t{1} << 46U)) {
    return unavailable("the memory is not named well");
  }
  const std::string path = fmt::format("/proc/{}/fd/{}", name.process, name.file);
  // O_NONBLOCK: whatever has that number by now, opening it does not wait.
  const Closing found{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (found.file < 0) return unavailable("{}: {}", path, reason());
  const std::size_t all = kFrontBytes + static_cast<std::size_t>(name.bytes);
  struct stat state {};
  const int seals = ::fcntl(found.file, F_GET_SEALS);
  if (::fstat(found.file, &state) != 0 || seals < 0 || (seals & kSeals) != kSeals ||
      static_cast<std::size_t>(state.st_size) != all) {
    return unavailable("{} is not the memory that was named", path);
  }
  void* map = ::mmap(nullptr, all, PROT_READ, MAP_SHARED | MAP_NORESERVE, found.file, 0);
  if (map == MAP_FAILED) return unavailable("cannot map {}: {}", path, reason());
  auto memory = std::unique_ptr<MappedMemory>(new MappedMemory());
  memory->map_ = static_cast<const std::byte*>(map);
  memory->map_bytes_ = all;
  if (std::memcmp(map, name.token.data(), kTokenBytes) != 0) {
    return unavailable("{} is not the memory that was named", path);
  }
  return memory;
}

MappedMemory::~MappedMemory() {
  if (map_ != nullptr) ::munmap(const_cast<std::byte*>(map_), map_bytes_);
}

std::span<const std::byte> MappedMemory::bytes() const {
  return std::span(map_, map_bytes_).subspan(kFrontBytes);
}

}  // namespace pleiad::kv
