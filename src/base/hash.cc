#include "base/hash.h"

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the same values, in the widest instructions that the machine has
#else
#include <xxhash.h>
#endif

namespace pleiad {
namespace {

// The library looks for those once, at the first input that is long enough, and without a lock.
bool look_for_instructions() {
  constexpr std::byte kLong[512] = {};
  return XXH3_64bits_withSeed(kLong, sizeof kLong, 0) != 0;
}

}  // namespace

std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed) {
  [[maybe_unused]] static const bool looked = look_for_instructions();
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace pleiad
