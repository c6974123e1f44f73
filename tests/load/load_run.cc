#include "tests/load/load_run.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "tests/load/server_probe.h"

namespace pleiad::load_test {
namespace {

Nanoseconds from_seconds(double seconds) {
  return std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(seconds));
}

std::int64_t resident_or_zero(std::int64_t pid) {
  const auto resident = resident_kib(pid);
  return resident.ok() ? *resident : 0;
}

}  // namespace

LoadRun::LoadRun(const LoadOptions& options)
    : options_(options),
      http_(loop_, {.idle_connections_max = options.streams}),
      random_(options.seed) {
  for (std::size_t i = 0; i < options_.streams; ++i) {
    clients_.push_back(std::make_unique<StreamClient>(
        http_,
        options_.server,
        clock_,
        [this, i](const StreamOutcome& outcome) {
          take(outcome);
          --running_;
          // Not inside the call that ends.
          loop_.post([this, i] { begin_next(i); });
        }
    ));
  }
}

LoadReport LoadRun::run() {
  const Nanoseconds begin = clock_.now();
  const net::Timer early = loop_.after(from_seconds(options_.seconds / 3.0), [this] {
    report_.resident_kib_early = resident_or_zero(options_.pid);
  });
  const net::Timer end =
      loop_.after(from_seconds(options_.seconds), [this] { time_is_up_ = true; });
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    begin_next(i);
  }
  loop_.run();
  report_.seconds = to_seconds(clock_.now() - begin);
  report_.resident_kib_late = resident_or_zero(options_.pid);
  std::ranges::sort(report_.first_token_ms);
  return std::move(report_);
}

void LoadRun::begin_next(std::size_t client) {
  if (time_is_up_) {
    if (running_ == 0) loop_.stop();
    return;
  }
  ++running_;
  const bool aborts = random_.below(options_.abort_one_in) == 0;
  clients_[client]->start(
      tale(random_.below(options_.tales)),
      aborts ? std::optional(random_.between(1, 8)) : std::nullopt
  );
}

void LoadRun::take(const StreamOutcome& outcome) {
  report_.tokens += std::max<std::int64_t>(outcome.tokens, 0);
  if (outcome.first_token > Nanoseconds{}) {
    report_.first_token_ms.push_back(to_seconds(outcome.first_token) * 1e3);
  }
  if (outcome.aborted) {
    ++report_.aborted;
  } else if (!outcome.failure.empty()) {
    report_.failures.push_back(outcome.failure);
  } else {
    ++report_.whole;
    const auto [known, first] = texts_.emplace(outcome.tale, outcome.text);
    if (first) return;
    ++report_.compared;
    if (known->second != outcome.text) ++report_.differing;
  }
}

}  // namespace pleiad::load_test
