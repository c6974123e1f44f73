#pragma once

#include <string_view>

#include "base/log.h"
#include "engine/load.h"

namespace pleiad::apps {

// What flags mean that take one of a few words. REQUIRES: the parser let no other word through.
engine::ComputeChoice compute_choice(std::string_view dtype);
LogLevel log_level(std::string_view name);

}  // namespace pleiad::apps
