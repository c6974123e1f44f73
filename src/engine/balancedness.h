#pragma once

#include <cstdint>
#include <span>

namespace pleiad::engine {

// Mean over maximum of the tokens of a layer's experts: 1 is even, 1 / experts is all on one; 1
// when nothing was counted.
double balancedness(std::span<const std::uint64_t> tokens);

}  // namespace pleiad::engine
