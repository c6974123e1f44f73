#pragma once

#include <memory>
#include <string>

#include "comm/control_link.h"
#include "comm/detail/frame_channel.h"

namespace pleiad::comm {

// A link over `channel`, whose ends know each other. `peer` is its name for people.
std::unique_ptr<ControlLink>
make_control_link(FrameChannel channel, std::string peer, const ControlOptions& options);

}  // namespace pleiad::comm
