#include "engine/group_member.h"

#include <utility>

#include <fmt/core.h>

#include "base/log.h"
#include "engine/group_forming.h"

namespace pleiad::engine {
namespace {

constexpr std::chrono::milliseconds kRetryPause{500};

}  // namespace

Result<void> GroupMember::run() {
  while (!stopped()) {
    auto served = serve_once();
    if (served.ok() || stopped()) continue;
    if (served.error().kind == ErrorKind::InvalidInput) return served;
    PLEIAD_LOG(Warning, "the group broke: {}; joining again", served.error().message);
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kRetryPause, [this] { return stopping_; });
  }
  return {};
}

void GroupMember::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

bool GroupMember::stopped() {
  const std::scoped_lock lock(mutex_);
  return stopping_;
}

void GroupMember::note_failure(const Error& error) {
  {
    const std::scoped_lock lock(mutex_);
    if (!failure_) failure_ = error;
  }
  changed_.notify_all();
}

// While the group stands. Returns what broke it, or nothing when stopped.
std::optional<Error> GroupMember::report_until_ended(RankService& service) {
  const auto ended = [this] { return stopping_ || failure_.has_value(); };
  for (;;) {
    service.report(ranks_.registry());
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, options_.report_interval, ended)) continue;
    return stopping_ ? std::nullopt : failure_;
  }
}

// One epoch. Fails with what ended it; succeeds when stopped.
Result<void> GroupMember::serve_once() {
  PLEIAD_TRY(endpoints, open_endpoints(options_));
  const comm::NodeHello hello = make_hello(options_, ranks_.model(), endpoints);
  PLEIAD_TRY(
      joined,
      comm::join(
          options_.rendezvous, hello, [this] { return stopped(); }, options_.on_waiting
      )
  );
  PLEIAD_TRY(groups, join_groups(options_, std::move(endpoints), joined.roster, [this] {
               return stopped();
             }));
  {
    const std::scoped_lock lock(mutex_);
    failure_.reset();
  }
  ranks_.start(std::move(groups), [this](const Error& error) { note_failure(error); });
  RankService service(*joined.link, ranks_.engines());
  if (options_.on_waiting) {
    options_.on_waiting(fmt::format("serving in epoch {}", joined.roster.epoch));
  }
  joined.link->start({
      .on_message =
          [&](const comm::ControlMessage& message) {
            const auto handled = service.handle(message);
            if (!handled.ok()) note_failure(handled.error());
          },
      .on_lost = [this](const Error& error) { note_failure(error); },
  });
  const std::optional<Error> failure = report_until_ended(service);
  // No message may find the engines gone. Their last events still find the link, open or not.
  service.close();
  if (failure) {
    ranks_.fail(*failure);
  } else {
    ranks_.stop();
  }
  joined.link->close();
  if (failure) return error(ErrorKind::Unavailable, "{}", failure->message);
  return {};
}

}  // namespace pleiad::engine
