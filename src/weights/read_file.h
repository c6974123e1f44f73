#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "base/result.h"

namespace pleiad::weights {

// The content of a small regular file such as config.json. Fails with NotFound (no such file),
// InvalidInput (a folder, pipe or device; longer than `bytes_max`) or Internal (the system
// refuses), naming the path. Reads no more than `bytes_max` bytes, even if the file grows
// meanwhile.
Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t bytes_max);

}  // namespace pleiad::weights
