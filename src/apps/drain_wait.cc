#include "apps/drain_wait.h"

#include <unistd.h>

#include "base/log.h"

namespace pleiad::apps {

sigset_t block_end_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

void wait_and_drain(
    const sigset_t& signals,
    double timeout_seconds,
    const std::function<void(net::Task on_drained)>& drain
) {
  int signal = 0;
  sigwait(&signals, &signal);
  PLEIAD_LOG(Info, "draining: open requests may end within {} s", timeout_seconds);
  // The loop tells by a signal of its own, so that one wait serves all three outcomes.
  drain([pid = getpid()] { kill(pid, SIGUSR1); });
  const auto seconds = static_cast<time_t>(timeout_seconds);
  const timespec limit{
      .tv_sec = seconds,
      .tv_nsec = static_cast<long>((timeout_seconds - static_cast<double>(seconds)) * 1e9),
  };
  const int ended_by = sigtimedwait(&signals, nullptr, &limit);
  if (ended_by == SIGUSR1) {
    PLEIAD_LOG(Info, "drained");
  } else {
    PLEIAD_LOG(
        Warning, "open requests are cut: {}", ended_by < 0 ? "the time is up" : "second signal"
    );
  }
}

}  // namespace pleiad::apps
