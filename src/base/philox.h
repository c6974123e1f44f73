#pragma once

#include <array>
#include <cstdint>

namespace pleiad {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four
// random words that are a pure function of (key, counter). No state, so a draw can be repeated
// anywhere.
std::array<std::uint32_t, 4>
philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// A uniform number in [0, 1) with 53 random bits: draw `index` of stream `seed`, substream `lane`.
double philox_uniform(std::uint64_t seed, std::uint64_t index, std::uint32_t lane = 0);

}  // namespace pleiad
