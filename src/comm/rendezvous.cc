#include "comm/rendezvous.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include <poll.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/wire_bytes.h"
#include "comm/detail/guest.h"
#include "comm/detail/node_hello.h"
#include "comm/detail/socket.h"
#include "comm/detail/socket_link.h"
#include "comm/detail/wake_event.h"

namespace pleiad::comm {
namespace {

constexpr std::size_t kGuestsMax = 256;  // connections that are looked after at once

std::string node_name(std::int32_t node, const std::string& address) {
  return fmt::format("node {} ({})", node, address);
}

class Host final : public RendezvousHost {
 public:
  Host(FileHandle listener, const RendezvousOptions& options)
      : options_(options),
        listener_(std::move(listener)),
        port_(local_address(listener_).port()),
        // Grows over restarts of node 0 too.
        epoch_(static_cast<std::uint32_t>(clock_.unix_seconds())) {}

  [[nodiscard]] std::uint16_t port() const override { return port_; }
  Result<Gathered> gather(
      const NodeHello& self,
      const std::function<void(const std::vector<std::int32_t>& missing)>& on_waiting
  ) override;
  void attend() override;
  void end_attendance() override {
    attended_.store(true);
    wake_.signal();
  }
  void stop() override {
    stopped_.store(true);
    wake_.signal();
  }

 private:
  void wait_for_events();
  void accept_guests();
  Result<void> listen_to(Guest& guest);
  void listen_to_all();
  void introduce(Guest& guest);
  [[nodiscard]] bool is_over(const Guest& guest, const Result<void>& heard) const;
  [[nodiscard]] std::vector<std::int32_t> missing_nodes() const;
  void tell_missing(const std::vector<std::int32_t>& missing, bool changed);
  Gathered announce();

  const RendezvousOptions options_;
  SystemClock clock_;
  FileHandle listener_;
  const std::uint16_t port_;
  std::uint32_t epoch_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> attended_{false};
  WakeEvent wake_;
  std::vector<std::unique_ptr<Guest>> guests_;
  NodeHello self_;         // of the last gather()
  bool gathering_ = true;  // false: attending
  Nanoseconds told_{0};    // when those who may stay heard of node 0
};

std::vector<std::int32_t> Host::missing_nodes() const {
  std::vector<std::int32_t> missing;
  for (std::int32_t node = 1; node < self_.nodes; ++node) {
    const bool there = std::any_of(guests_.begin(), guests_.end(), [&](const auto& guest) {
      return guest->stage() == Guest::Stage::Seated && guest->hello().node == node;
    });
    if (!there) missing.push_back(node);
  }
  return missing;
}

void Host::wait_for_events() {
  std::vector<pollfd> events;
  events.push_back({.fd = listener_.get(), .events = POLLIN, .revents = 0});
  events.push_back({.fd = wake_.fd(), .events = POLLIN, .revents = 0});
  Nanoseconds until = told_ + options_.control.heartbeat_interval;
  for (const auto& guest : guests_) {
    const bool writing = guest->channel().unsent() > 0;
    const auto wanted = static_cast<short>(writing ? POLLIN | POLLOUT : POLLIN);
    events.push_back({.fd = guest->channel().fd(), .events = wanted, .revents = 0});
    if (!guest->may_stay()) until = std::min(until, guest->deadline());
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_.now());
  const auto limit = std::max(left, std::chrono::milliseconds{0});
  ::poll(events.data(), events.size(), static_cast<int>(limit.count()));
  if ((events[1].revents & POLLIN) != 0) wake_.clear();
}

void Host::accept_guests() {
  for (;;) {
    SocketAddress address;
    FileHandle socket = accept_from(listener_, address);
    if (!socket.valid()) return;
    if (guests_.size() >= kGuestsMax) {
      // Whoever has waited longest without proving anything makes room.
      const auto idle = std::find_if(guests_.begin(), guests_.end(), [](const auto& guest) {
        return !guest->may_stay();
      });
      if (idle == guests_.end()) continue;
      guests_.erase(idle);
    }
    prepare_connection(socket, options_.control.heartbeat_limit);
    const Nanoseconds deadline = clock_.now() + options_.control.heartbeat_limit;
    guests_.push_back(std::make_unique<Guest>(std::move(socket), address, deadline));
  }
}

void warn(const std::string& text) {
  PLEIAD_LOG(Warning, "{}", text);
}

// Whether the connection has come to its end, which is logged.
bool Host::is_over(const Guest& guest, const Result<void>& heard) const {
  const bool late = !guest.may_stay() && clock_.now() >= guest.deadline();
  if (heard.ok() && !late) return false;
  if (guest.stage() == Guest::Stage::Dismissed) return true;  // its refusal was logged
  const std::string why =
      heard.ok() ? fmt::format("not done within {} ms", options_.control.heartbeat_limit.count())
                 : heard.error().message;
  if (guest.may_stay()) {
    const std::string name = node_name(guest.hello().node, guest.address());
    warn(fmt::format("{} left before the group was complete: {}", name, why));
  } else {
    warn(fmt::format("connection of {} dropped: {}", guest.address(), why));
  }
  return true;
}

void Host::introduce(Guest& guest) {
  const std::string name = node_name(guest.hello().node, guest.address());
  std::string refusal = refusal_of(guest.hello(), self_);
  const auto has_its_place = [&](const auto& other) {
    return other->stage() == Guest::Stage::Seated && other->hello().node == guest.hello().node;
  };
  const auto holder = std::find_if(guests_.begin(), guests_.end(), has_its_place);
  if (refusal.empty() && holder != guests_.end()) {
    refusal = fmt::format(
        "the place of node {} is taken by {}", guest.hello().node, (*holder)->address()
    );
  }
  if (!refusal.empty()) {
    guest.dismiss(refusal);
    return;
  }
  told_ = Nanoseconds{0};
  if (gathering_) {
    guest.seat();
    PLEIAD_LOG(Info, "{} is there", name);
  } else {
    guest.wait();
    PLEIAD_LOG(Info, "{} waits: its place is held", name);
  }
}

// Hears one guest out, as far as it has spoken.
Result<void> Host::listen_to(Guest& guest) {
  const bool was_dismissed = guest.stage() == Guest::Stage::Dismissed;
  PLEIAD_TRY(guest.listen(options_.secret));
  const bool has_waited = gathering_ && guest.stage() == Guest::Stage::Waiting;
  if (has_waited || guest.stage() == Guest::Stage::Introduced) introduce(guest);
  if (!was_dismissed && guest.stage() == Guest::Stage::Dismissed) {
    warn(fmt::format("{} was refused: {}", guest.address(), guest.refusal()));
  }
  return guest.channel().flush();
}

void Host::listen_to_all() {
  for (std::size_t i = 0; i < guests_.size();) {
    const Result<void> heard = listen_to(*guests_[i]);
    if (is_over(*guests_[i], heard)) {
      guests_.erase(guests_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

// Tells those who may stay who is missing, when that changes and as a sign of life. Nobody is
// missing while the group stands without them.
void Host::tell_missing(const std::vector<std::int32_t>& missing, bool changed) {
  const Nanoseconds now = clock_.now();
  if (!changed && now - told_ < options_.control.heartbeat_interval) return;
  told_ = now;
  ByteWriter writer;
  writer.bytes(std::as_bytes(std::span(missing)));
  const std::vector<std::byte> bytes = writer.take();
  for (const auto& guest : guests_) {
    // One that reads nothing hears nothing new; its connection is cut by the system.
    const bool reads = guest->channel().unsent() == 0;
    if (guest->may_stay() && reads) guest->channel().queue(LinkFrame::Waiting, bytes);
  }
}

// Whoever has a seat leaves the door as a member of the group; the others stay there.
RendezvousHost::Gathered Host::announce() {
  const auto first_seated =
      std::stable_partition(guests_.begin(), guests_.end(), [](const auto& guest) {
        return guest->stage() != Guest::Stage::Seated;
      });
  const std::span seated(first_seated, guests_.end());
  Gathered gathered;
  gathered.roster.epoch = ++epoch_;
  gathered.roster.nodes.resize(static_cast<std::size_t>(self_.nodes));
  gathered.roster.nodes[0] = self_;
  gathered.links.resize(static_cast<std::size_t>(self_.nodes));
  for (const auto& guest : seated) {
    gathered.roster.nodes[static_cast<std::size_t>(guest->hello().node)] = guest->hello();
  }
  const std::vector<std::byte> bytes = encode_roster(gathered.roster);
  for (const auto& guest : seated) {
    const std::int32_t node = guest->hello().node;
    guest->channel().queue(LinkFrame::Roster, bytes);
    gathered.links[static_cast<std::size_t>(node)] = make_control_link(
        guest->take_channel(), node_name(node, guest->address()), options_.control
    );
  }
  guests_.erase(first_seated, guests_.end());
  return gathered;
}

Result<RendezvousHost::Gathered> Host::gather(
    const NodeHello& self,
    const std::function<void(const std::vector<std::int32_t>& missing)>& on_waiting
) {
  PLEIAD_CHECK(self.node == 0 && self.nodes > 0, "the host is node 0");
  self_ = self;
  gathering_ = true;
  attended_.store(false);
  std::vector<std::int32_t> missing;
  bool first = true;
  for (;;) {
    if (stopped_.load()) return error(ErrorKind::Cancelled, "stopped while nodes were gathering");
    accept_guests();
    listen_to_all();
    std::vector<std::int32_t> now_missing = missing_nodes();
    if (now_missing.empty()) return announce();
    const bool changed = first || now_missing != missing;
    first = false;
    missing = std::move(now_missing);
    if (changed && on_waiting) on_waiting(missing);
    tell_missing(missing, changed);
    wait_for_events();
  }
}

void Host::attend() {
  gathering_ = false;
  while (!stopped_.load() && !attended_.load()) {
    accept_guests();
    listen_to_all();
    tell_missing({}, false);
    wait_for_events();
  }
}

}  // namespace

Result<std::unique_ptr<RendezvousHost>> RendezvousHost::listen(const RendezvousOptions& options) {
  PLEIAD_TRY(name, parse_host_port(options.address));
  PLEIAD_TRY(addresses, resolve(name, true));
  PLEIAD_TRY(listener, listen_at(addresses));
  return std::unique_ptr<RendezvousHost>(std::make_unique<Host>(std::move(listener), options));
}

}  // namespace pleiad::comm
