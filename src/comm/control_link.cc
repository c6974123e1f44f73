#include "comm/control_link.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <poll.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/clock.h"
#include "comm/detail/socket_link.h"
#include "comm/detail/wake_event.h"

namespace pleiad::comm {
namespace {

// One thread per link: it beats from the beginning, and listens once it is started.
class SocketLink final : public ControlLink {
 public:
  SocketLink(FrameChannel channel, std::string peer, const ControlOptions& options)
      : peer_(std::move(peer)), options_(options), channel_(std::move(channel)) {
    channel_.reader().set_limit(kControlBytesMax);
    thread_ = std::thread([this] { run(); });
  }
  ~SocketLink() override { close(); }
  SocketLink(const SocketLink&) = delete;
  SocketLink& operator=(const SocketLink&) = delete;

  void start(ControlEvents events) override {
    {
      const std::lock_guard lock(mutex_);
      PLEIAD_CHECK(!events_, "a link is started once");
      events_ = std::move(events);
    }
    wake_.signal();
  }

  void send(ControlMessage message) override {
    PLEIAD_CHECK(message.kind >= kControlKindFirst, "kinds below 16 are the link's own");
    PLEIAD_CHECK(message.bytes.size() <= kControlBytesMax, "a message of at most 64 MiB");
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      if (lost_) return;
      channel_.queue(message.kind, message.bytes);
      spoke_ = clock_.now();
      flush();
      wake = channel_.unsent() > 0 || lost_.has_value();
    }
    if (wake) wake_.signal();
  }

  void close() override {
    closing_.store(true);
    wake_.signal();
    const std::lock_guard lock(closing_mutex_);
    if (!thread_.joinable()) return;
    thread_.join();
    const std::lock_guard writing(mutex_);
    if (!lost_) flush();
    ::shutdown(channel_.fd(), SHUT_RDWR);
  }

  [[nodiscard]] std::string peer() const override { return peer_; }

 private:
  void run();
  std::optional<ControlEvents> take_events();
  void rest(Nanoseconds until, bool listening);
  Nanoseconds beat(Nanoseconds now);
  void listen();
  void flush();
  void lose(Error reason);

  const std::string peer_;
  const ControlOptions options_;
  SystemClock clock_;
  WakeEvent wake_;
  std::atomic<bool> closing_{false};
  std::mutex closing_mutex_;  // one thread joins

  std::mutex mutex_;  // guards what follows, except that only thread_ reads from channel_
  FrameChannel channel_;
  std::optional<ControlEvents> events_;
  std::optional<Error> lost_;
  Nanoseconds spoke_{0};

  ControlEvents calls_;  // thread_ only, like what follows
  bool listening_ = false;
  bool readable_ = false;
  Nanoseconds heard_{0};
  std::thread thread_;
};

void SocketLink::lose(Error reason) {
  if (!lost_) lost_ = std::move(reason);
}

// Under the mutex.
void SocketLink::flush() {
  if (auto sent = channel_.flush(); !sent.ok()) lose(std::move(sent).error());
  if (channel_.unsent() <= options_.queue_bytes_max) return;
  lose(error(
      ErrorKind::Exhausted,
      "{} bytes wait for a peer that does not read, at most {}",
      channel_.unsent(),
      options_.queue_bytes_max
  ));
}

// Says something when nothing else was said; returns when to look again.
Nanoseconds SocketLink::beat(Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  if (now - spoke_ >= options_.heartbeat_interval && channel_.unsent() == 0) {
    channel_.queue(LinkFrame::Heartbeat, {});
    spoke_ = now;
  }
  flush();
  return std::max(spoke_, now - options_.heartbeat_interval / 2) + options_.heartbeat_interval;
}

void SocketLink::rest(Nanoseconds until, bool listening) {
  bool writing = false;
  {
    const std::lock_guard lock(mutex_);
    writing = channel_.unsent() > 0 && !lost_;
  }
  const int wanted = (listening ? POLLIN : 0) | (writing ? POLLOUT : 0);
  pollfd events[2] = {
      {.fd = wanted == 0 ? -1 : channel_.fd(), .events = static_cast<short>(wanted), .revents = 0},
      {.fd = wake_.fd(), .events = POLLIN, .revents = 0},
  };
  const Nanoseconds left = std::max(until - clock_.now(), Nanoseconds{0});
  const timespec limit{
      .tv_sec = left.count() / 1'000'000'000, .tv_nsec = left.count() % 1'000'000'000};
  ::ppoll(events, 2, &limit, nullptr);
  if ((events[1].revents & POLLIN) != 0) wake_.clear();
  readable_ = listening && (events[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
}

// Reads what has come and passes it on.
void SocketLink::listen() {
  Result<void> filled;
  if (readable_) filled = channel_.fill();
  for (;;) {
    auto frame = channel_.next();
    if (!frame.ok()) {
      const std::lock_guard lock(mutex_);
      lose(std::move(frame).error());
      return;
    }
    if (!*frame) break;
    ControlMessage& message = **frame;
    heard_ = clock_.now();
    if (message.kind >= kControlKindFirst) {
      if (closing_.load()) return;
      if (calls_.on_message) calls_.on_message(std::move(message));
    } else if (message.kind != static_cast<std::uint32_t>(LinkFrame::Heartbeat)) {
      const std::lock_guard lock(mutex_);
      lose(corrupt("a frame of kind {}, which does not belong here", message.kind));
      return;
    }
  }
  const std::lock_guard lock(mutex_);
  if (readable_ && filled.ok()) heard_ = clock_.now();
  if (!filled.ok()) lose(std::move(filled).error());
}

std::optional<ControlEvents> SocketLink::take_events() {
  const std::lock_guard lock(mutex_);
  return events_;
}

void SocketLink::run() {
  while (!closing_.load()) {
    if (!listening_) {
      if (auto events = take_events()) {
        calls_ = *std::move(events);
        listening_ = true;
        heard_ = clock_.now();
      }
    }
    if (listening_) listen();
    const Nanoseconds now = clock_.now();
    Nanoseconds until = beat(now);
    const Nanoseconds silent_until = heard_ + options_.heartbeat_limit;
    std::optional<Error> lost;
    {
      const std::lock_guard lock(mutex_);
      if (listening_ && now >= silent_until) {
        lose(error(ErrorKind::Timeout, "heard nothing for {} ms", options_.heartbeat_limit.count())
        );
      }
      lost = lost_;
    }
    if (lost && listening_) {
      // A write may fail before everything that the peer said was read.
      readable_ = true;
      listen();
      if (!closing_.load() && calls_.on_lost) calls_.on_lost(with_context(*lost, peer_));
      return;
    }
    if (listening_) until = std::min(until, silent_until);
    if (lost) until = now + options_.heartbeat_interval;
    rest(until, listening_);
  }
}

}  // namespace

std::unique_ptr<ControlLink>
make_control_link(FrameChannel channel, std::string peer, const ControlOptions& options) {
  return std::make_unique<SocketLink>(std::move(channel), std::move(peer), options);
}

}  // namespace pleiad::comm
