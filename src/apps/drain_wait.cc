#include "apps/drain_wait.h"

#include <initializer_list>

#include <unistd.h>

#include "base/log.h"

namespace pleiad::apps {
namespace {

sigset_t block(std::initializer_list<int> blocked) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : blocked) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

}  // namespace

sigset_t block_end_signals() {
  return block({SIGTERM, SIGINT, SIGUSR1});
}

sigset_t block_end_and_reload_signals() {
  return block({SIGTERM, SIGINT, SIGUSR1, SIGHUP});
}

void wait_and_drain(const sigset_t& signals, double timeout_seconds, const SignalActions& actions) {
  int signal = 0;
  for (sigwait(&signals, &signal); signal == SIGHUP; sigwait(&signals, &signal)) {
    actions.reload();
  }
  PLEIAD_LOG(Info, "draining: open requests may end within {} s", timeout_seconds);
  // The loop tells by a signal of its own, so that one wait serves all three outcomes.
  actions.drain([pid = getpid()] { kill(pid, SIGUSR1); });
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
