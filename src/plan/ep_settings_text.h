#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "plan/ep_settings.h"

namespace pleiad::plan {

// EP settings as flags and files write them.

// "auto", "1" or "2".
std::string_view to_string(EpLevel level);
Result<EpLevel> parse_ep_level(std::string_view text);

// "gate" or "hash".
std::string_view to_string(Routing routing);
Result<Routing> parse_routing(std::string_view text);

// [[tokens, factor], ...] as MindIE writes it. Checks types and, like validate(), ranges and order.
Result<std::vector<BufferScale>> buffer_scales_from_json(const Json& list);
// The same from JSON text, as a flag's value.
Result<std::vector<BufferScale>> parse_buffer_scales(std::string_view text);
// JSON text that parse_buffer_scales reads.
std::string buffer_scales_text(const std::vector<BufferScale>& scales);

}  // namespace pleiad::plan
