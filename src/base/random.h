#pragma once

#include <cstdint>

namespace pleiad {

// A seeded stream of random numbers for tests, simulation and identifiers (SplitMix64, Steele et
// al. 2014). Not for sampling tokens (that is philox.h). Not thread-safe.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  // Uniform in [0, bound). REQUIRES: bound > 0.
  std::uint64_t below(std::uint64_t bound);
  // Uniform in [low, high]. REQUIRES: low <= high.
  std::int64_t between(std::int64_t low, std::int64_t high);
  // Uniform in [0, 1).
  double uniform();
  // Normal with mean 0 and deviation 1.
  double normal();

 private:
  std::uint64_t state_;
};

// A seed from the operating system's entropy.
std::uint64_t entropy_seed();

}  // namespace pleiad
