#pragma once

#include <csignal>
#include <functional>

#include "net/unique_function.h"

namespace pleiad::apps {

// SIGTERM, SIGINT and the one by which this program wakes itself; blocked for this thread and those
// it makes from now on. Call before any thread exists.
sigset_t block_end_signals();

// Waits for SIGTERM or SIGINT, then lets open requests end: `drain` is to call what it is given
// once that is so. A second signal or the timeout ends the wait. `signals` are block_end_signals().
void wait_and_drain(
    const sigset_t& signals,
    double timeout_seconds,
    const std::function<void(net::Task on_drained)>& drain
);

}  // namespace pleiad::apps
