#pragma once

#include <cstdint>

namespace pleiad {

// Index into a model's vocabulary. Ids from outside are range-checked against the vocabulary before
// they reach anything that indexes with them.
using TokenId = std::uint32_t;

}  // namespace pleiad
