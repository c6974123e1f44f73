#pragma once

#include <csignal>
#include <functional>

#include "net/unique_function.h"

namespace pleiad::apps {

// SIGTERM, SIGINT and the one by which this program wakes itself; blocked for this thread and those
// it makes from now on. Call before any thread exists.
sigset_t block_end_signals();
// The same and SIGHUP, for a program that has something to read anew.
sigset_t block_end_and_reload_signals();

// What a program does when it is told to.
struct SignalActions {
  // Lets open requests end, and calls what it is given once that is so.
  std::function<void(net::Task on_drained)> drain;
  std::function<void()> reload = {};  // SIGHUP, when that is among the signals
};

// Waits for SIGTERM or SIGINT, then drains. A second signal or the timeout ends the wait. `signals`
// are those of one of the functions above.
void wait_and_drain(const sigset_t& signals, double timeout_seconds, const SignalActions& actions);

}  // namespace pleiad::apps
