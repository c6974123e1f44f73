#include "comm/detail/ucx_wire.h"

#include <fstream>
#include <string>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

namespace pleiad::comm {

std::uint64_t checksum_of(const UcxHeader& header, std::span<const std::byte> payload) {
  const auto fields = std::as_bytes(std::span(&header, 1)).first(offsetof(UcxHeader, checksum));
  return hash64(payload, hash64(fields));
}

UcxHome find_home() {
  std::string place;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> place;
  bool known = !place.empty();
  // Containers of one machine may hide processes or memory from each other.
  for (const char* space : {"/proc/self/ns/pid", "/proc/self/ns/ipc", "/dev/shm"}) {
    struct stat found {};
    known = known && ::stat(space, &found) == 0;
    place += fmt::format(" {} {}", found.st_dev, found.st_ino);
  }
  return {
      .machine = known ? hash64(place) : 0,
      .process = ::getpid(),
  };
}

}  // namespace pleiad::comm
