#include <algorithm>
#include <cstring>
#include <utility>

#include <poll.h>

#include "base/clock.h"
#include "base/wire_bytes.h"
#include "comm/detail/guest.h"
#include "comm/detail/node_hello.h"
#include "comm/detail/socket.h"
#include "comm/detail/socket_link.h"
#include "comm/rendezvous.h"

namespace pleiad::comm {
namespace {

constexpr auto kLook = std::chrono::milliseconds{20};  // between looks at `stopped`
constexpr auto kRetryFirst = std::chrono::milliseconds{50};
constexpr auto kRetryMax = std::chrono::milliseconds{1'000};

// The reason may come from a stranger, and is shown to people.
Error refused(const std::string& host, std::span<const std::byte> reason) {
  std::string why;
  for (const std::byte byte : reason) {
    const auto c = static_cast<char>(byte);
    why += c >= ' ' && c <= '~' ? c : '?';
  }
  return invalid_input("node 0 at {} refused this node: {}", host, why);
}

// One attempt to join, over one connection.
class Attempt {
 public:
  Attempt(
      const RendezvousOptions& options,
      const NodeHello& self,
      const std::function<bool()>& stopped,
      const std::function<void(const std::string&)>& on_waiting
  )
      : options_(options), self_(self), stopped_(stopped), on_waiting_(on_waiting) {}

  Result<Joined> run(const SocketAddress& address);

 private:
  Result<void> prove();
  Result<Joined> wait_for_roster();
  Result<ControlMessage> await();
  Result<ControlMessage> await(LinkFrame kind);
  void tell_missing(std::span<const std::byte> bytes);

  const RendezvousOptions& options_;
  const NodeHello& self_;
  const std::function<bool()>& stopped_;
  const std::function<void(const std::string&)>& on_waiting_;
  std::string host_;  // node 0's address
  FrameChannel channel_;
  SystemClock clock_;
};

Result<ControlMessage> Attempt::await() {
  const Nanoseconds end = clock_.now() + options_.control.heartbeat_limit;
  for (;;) {
    PLEIAD_TRY(channel_.flush());
    PLEIAD_TRY(frame, channel_.next());
    if (frame) return *std::move(frame);
    if (stopped_()) return error(ErrorKind::Cancelled, "stopped while joining");
    if (clock_.now() > end) {
      const auto limit = options_.control.heartbeat_limit.count();
      return error(ErrorKind::Timeout, "node 0 said nothing for {} ms", limit);
    }
    const int wanted = channel_.unsent() > 0 ? POLLIN | POLLOUT : POLLIN;
    pollfd event{.fd = channel_.fd(), .events = static_cast<short>(wanted), .revents = 0};
    ::poll(&event, 1, static_cast<int>(kLook.count()));
    if ((event.revents & (POLLIN | POLLERR | POLLHUP)) != 0) PLEIAD_TRY(channel_.fill());
  }
}

Result<ControlMessage> Attempt::await(LinkFrame kind) {
  PLEIAD_TRY(frame, await());
  if (frame.kind == static_cast<std::uint32_t>(kind)) return std::move(frame);
  if (frame.kind == static_cast<std::uint32_t>(LinkFrame::Refusal)) {
    return refused(host_, frame.bytes);
  }
  return corrupt("node 0 sent a frame of kind {} out of turn", frame.kind);
}

Result<void> Attempt::prove() {
  Transcript transcript{.joiner = fresh_nonce(), .host = {}};
  channel_.reader().set_limit(kHandshakeBytesMax);
  channel_.queue(LinkFrame::Open, encode_opening({.nonce = transcript.joiner}));
  PLEIAD_TRY(challenge, await(LinkFrame::Challenge));
  PLEIAD_TRY(opening, decode_opening(challenge.bytes));
  if (opening.protocol != kProtocol) {
    return invalid_input(
        "node 0 at {} speaks protocol {}, this node {}: their versions differ",
        host_,
        opening.protocol,
        kProtocol
    );
  }
  transcript.host = opening.nonce;
  channel_.queue(LinkFrame::Proof, transcript.digest(options_.secret, kJoinerProof));
  PLEIAD_TRY(proof, await(LinkFrame::Proof));
  if (!same_bytes(proof.bytes, transcript.digest(options_.secret, kHostProof))) {
    return invalid_input("what listens at {} does not know the cluster secret", host_);
  }
  channel_.use_keys(
      transcript.digest(options_.secret, kJoinerKey), transcript.digest(options_.secret, kHostKey)
  );
  channel_.reader().set_limit(kControlBytesMax);
  return {};
}

void Attempt::tell_missing(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  const auto listed = reader.bytes(kRosterNodesMax * sizeof(std::int32_t));
  if (!on_waiting_ || !listed.ok()) return;
  if (listed->empty()) {
    on_waiting_("waiting: another holds this node's place in the group");
    return;
  }
  std::string text = "waiting for node";
  for (std::size_t at = 0; at + sizeof(std::int32_t) <= listed->size();
       at += sizeof(std::int32_t)) {
    std::int32_t node = 0;
    std::memcpy(&node, listed->data() + at, sizeof node);
    text += fmt::format("{} {}", at == 0 ? "" : ",", node);
  }
  on_waiting_(text);
}

Result<Joined> Attempt::wait_for_roster() {
  for (;;) {
    PLEIAD_TRY(frame, await());
    if (frame.kind > static_cast<std::uint32_t>(LinkFrame::Heartbeat)) {
      return corrupt("node 0 sent a frame of kind {} out of turn", frame.kind);
    }
    switch (static_cast<LinkFrame>(frame.kind)) {
      case LinkFrame::Waiting:
        tell_missing(frame.bytes);
        break;
      case LinkFrame::Roster: {
        PLEIAD_TRY(roster, decode_roster(frame.bytes));
        const bool complete = roster.nodes.size() == static_cast<std::size_t>(self_.nodes);
        if (!complete) return corrupt("a roster of {} nodes", roster.nodes.size());
        auto link =
            make_control_link(std::move(channel_), "node 0 (" + host_ + ")", options_.control);
        return Joined{.roster = std::move(roster), .link = std::move(link)};
      }
      case LinkFrame::Refusal:
        return refused(host_, frame.bytes);
      case LinkFrame::Heartbeat:
        break;
      case LinkFrame::Open:
      case LinkFrame::Challenge:
      case LinkFrame::Proof:
      case LinkFrame::Hello:
        return corrupt("node 0 sent a frame of kind {} out of turn", frame.kind);
    }
  }
}

Result<Joined> Attempt::run(const SocketAddress& address) {
  PLEIAD_TRY(socket, connect_to(address, options_.control.heartbeat_limit, stopped_));
  prepare_connection(socket, options_.control.heartbeat_limit);
  channel_ = FrameChannel(std::move(socket));
  host_ = address.text();
  PLEIAD_TRY(prove());
  channel_.queue(LinkFrame::Hello, encode_hello(self_));
  return wait_for_roster();
}

// False when stopped meanwhile.
bool wait_between_attempts(Nanoseconds longest, const std::function<bool()>& stopped) {
  const SystemClock clock;
  const Nanoseconds end = clock.now() + longest;
  while (clock.now() < end) {
    if (stopped()) return false;
    ::poll(nullptr, 0, static_cast<int>(kLook.count()));
  }
  return !stopped();
}

}  // namespace

Result<Joined> join(
    const RendezvousOptions& options,
    const NodeHello& self,
    const std::function<bool()>& stopped,
    const std::function<void(const std::string& what)>& on_waiting
) {
  PLEIAD_TRY(name, parse_host_port(options.address));
  std::string told;
  const std::function<void(const std::string&)> tell = [&](const std::string& what) {
    if (what == told) return;
    told = what;
    if (on_waiting) on_waiting(what);
  };
  Nanoseconds pause = kRetryFirst;
  for (;;) {
    const auto addresses = resolve(name, false);
    Error why = addresses.ok() ? unavailable("no address") : addresses.error();
    const std::size_t count = addresses.ok() ? addresses->size() : 0;
    for (std::size_t i = 0; i < count; ++i) {
      auto joined = Attempt(options, self, stopped, tell).run((*addresses)[i]);
      if (joined.ok()) return joined;
      why = std::move(joined).error();
      if (why.kind == ErrorKind::InvalidInput || why.kind == ErrorKind::Cancelled) return why;
    }
    tell(fmt::format("node 0 at {}: {}", options.address, why.message));
    if (!wait_between_attempts(pause, stopped)) {
      return error(ErrorKind::Cancelled, "stopped while joining node 0 at {}", options.address);
    }
    pause = std::min<Nanoseconds>(pause * 2, kRetryMax);
  }
}

}  // namespace pleiad::comm
