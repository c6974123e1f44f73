#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "engine/load.h"

namespace pleiad::apps {

// What flags mean that take one of a few words. REQUIRES: the parser let no other word through.
engine::ComputeChoice compute_choice(std::string_view dtype);
LogLevel log_level(std::string_view name);

// Which GPU `--device` means, none for the host: "cpu", "cuda", "cuda:INDEX", or "auto", which is
// the first GPU where this build and machine have one and the group has one rank. Fails with
// InvalidInput naming the words there are, and for a GPU that is asked for by name like
// device::cuda::find_gpu.
Result<std::optional<int>> device_choice(std::string_view device, std::int32_t ranks);

}  // namespace pleiad::apps
