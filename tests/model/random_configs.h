#pragma once

#include <cstdint>
#include <string>

#include "tests/model/tiny_configs.h"

namespace pleiad::model::reference {

// A tiny model of `family` with sizes and switches drawn at random within what it computes.
TinyCase random_case(const std::string& family, std::uint64_t seed);

}  // namespace pleiad::model::reference
