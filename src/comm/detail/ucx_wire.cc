#include "comm/detail/ucx_wire.h"

#include <fstream>
#include <string>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

namespace pleiad::comm {

std::uint64_t checksum_of(const UcxHeader& header, std::span<const std::byte> payload) {
  const XXH64_hash_t seed = XXH3_64bits(&header, offsetof(UcxHeader, checksum));
  return XXH3_64bits_withSeed(payload.data(), payload.size(), seed);
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
      .machine = known ? XXH3_64bits(place.data(), place.size()) : 0,
      .process = ::getpid(),
  };
}

}  // namespace pleiad::comm
