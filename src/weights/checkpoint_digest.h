#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "weights/checkpoint.h"

namespace pleiad::weights {

// Sixteen hexadecimal digits that equal checkpoints share: of config.json, every tensor's name,
// dtype and shape, and some bytes of a spread of tensors. Reads a few hundred pages whatever the
// size, so it tells checkpoints apart that were trained apart, not ones forged to collide. Fails
// when config.json cannot be read.
Result<std::string>
checkpoint_digest(const std::filesystem::path& folder, const Checkpoint& checkpoint);

}  // namespace pleiad::weights
