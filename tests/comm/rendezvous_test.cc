// Also tests: join.cc, guest.cc
#include "comm/rendezvous.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/check.h"
#include "comm/detail/guest.h"
#include "comm/detail/socket.h"

namespace pleiad::comm {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds{20};

NodeHello hello_of(std::int32_t node, std::int32_t nodes) {
  return {
      .node = node,
      .nodes = nodes,
      .version = "1.0",
      .model = "fable",
      .layout = "ep 4",
      .addresses = {{static_cast<std::byte>(node)}}};
}

// A host that gathers on a thread of its own.
class Hosting {
 public:
  explicit Hosting(std::int32_t nodes, const std::string& address = "127.0.0.1:0") {
    options_ = {.address = address, .secret = "open sesame", .control = kBrief};
    auto host = RendezvousHost::listen(options_);
    PLEIAD_CHECK(host.ok(), host.ok() ? "" : host.error().message);
    host_ = std::move(*host);
    begin(nodes);
  }
  ~Hosting() {
    host_->stop();
    if (gathered_.valid()) gathered_.wait();
    if (attended_.valid()) attended_.wait();
  }
  Hosting(const Hosting&) = delete;
  Hosting& operator=(const Hosting&) = delete;

  void begin(std::int32_t nodes) {
    gathered_ = std::async(std::launch::async, [this, nodes] {
      return host_->gather(hello_of(0, nodes), [this](const std::vector<std::int32_t>& missing) {
        const std::lock_guard lock(mutex_);
        missing_.push_back(missing);
      });
    });
  }
  // Answers at the door until it gathers again.
  void attend() {
    attended_ = std::async(std::launch::async, [this] { host_->attend(); });
  }
  void end_attendance() {
    host_->end_attendance();
    attended_.get();
  }
  Result<RendezvousHost::Gathered> take() { return gathered_.get(); }
  void stop() { host_->stop(); }

  // As a node would be started.
  [[nodiscard]] RendezvousOptions options() const {
    RendezvousOptions options = options_;
    const std::string host = options.address.substr(0, options.address.rfind(':'));
    options.address = host + ":" + std::to_string(host_->port());
    return options;
  }
  std::vector<std::vector<std::int32_t>> missing() {
    const std::lock_guard lock(mutex_);
    return missing_;
  }
  // A bare connection, for those who misbehave.
  [[nodiscard]] FileHandle connect() const {
    const auto addresses = resolve(*parse_host_port(options().address), false);
    auto socket = connect_to((*addresses)[0], kPatience, [] { return false; });
    PLEIAD_CHECK(socket.ok());
    return std::move(*socket);
  }

  static constexpr ControlOptions kBrief{
      .heartbeat_interval = milliseconds{20},
      .heartbeat_limit = milliseconds{2'000}};

 private:
  RendezvousOptions options_;
  std::unique_ptr<RendezvousHost> host_;
  std::future<Result<RendezvousHost::Gathered>> gathered_;
  std::future<void> attended_;
  std::mutex mutex_;  // guards missing_
  std::vector<std::vector<std::int32_t>> missing_;
};

// A node that joins on a thread of its own.
class Joining {
 public:
  Joining(const RendezvousOptions& options, const NodeHello& self) {
    joined_ = std::async(std::launch::async, [this, options, self] {
      return join(
          options,
          self,
          [this] { return stopped_.load(); },
          [this](const std::string& what) {
            const std::lock_guard lock(mutex_);
            told_ += what + "\n";
            changed_.notify_all();
          }
      );
    });
  }
  ~Joining() {
    stop();
    if (joined_.valid()) joined_.wait();
  }
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;

  Result<Joined> take() {
    if (joined_.wait_for(kPatience) != std::future_status::ready)
      return unavailable("still joining");
    return joined_.get();
  }
  bool wait_until_told(std::string_view words) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
      return told_.find(words) != std::string::npos;
    });
  }
  void stop() { stopped_.store(true); }

 private:
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // guards told_
  std::condition_variable changed_;
  std::string told_;
  std::future<Result<Joined>> joined_;
};

// Waits until the other end closes; what it said comes back.
std::string read_to_the_end(const FileHandle& socket) {
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  const int flags = ::fcntl(socket.get(), F_GETFL);
  ::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string text;
  char bytes[1'000];
  ssize_t taken = 0;
  while ((taken = ::recv(socket.get(), bytes, sizeof bytes, 0)) > 0) {
    text.append(bytes, static_cast<std::size_t>(taken));
  }
  const bool closed = taken == 0 || errno == ECONNRESET;
  return closed ? text : text + " and stays open";
}

TEST(Rendezvous, GathersNodesThatStartInAnyOrder) {
  Hosting hosting(3);
  Joining second(hosting.options(), hello_of(2, 3));
  ASSERT_TRUE(second.wait_until_told("waiting for node 1\n"));
  Joining first(hosting.options(), hello_of(1, 3));

  auto gathered = hosting.take();
  auto one = first.take();
  auto two = second.take();

  ASSERT_TRUE(gathered.ok() && one.ok() && two.ok());
  EXPECT_EQ(one->roster.epoch, gathered->roster.epoch);
  EXPECT_EQ(two->roster.epoch, gathered->roster.epoch);
  ASSERT_EQ(two->roster.nodes.size(), 3U);
  EXPECT_EQ(two->roster.nodes[1].addresses, hello_of(1, 3).addresses);
  EXPECT_EQ(gathered->roster.nodes[2].addresses, hello_of(2, 3).addresses);
  EXPECT_EQ(gathered->links[0], nullptr);
  EXPECT_THAT(gathered->links[2]->peer(), HasSubstr("node 2 (127.0.0.1:"));
  EXPECT_THAT(one->link->peer(), HasSubstr("node 0 (127.0.0.1:"));
  EXPECT_THAT(hosting.missing(), ElementsAre(ElementsAre(1, 2), ElementsAre(1)));
}

TEST(Rendezvous, LinksCarryMessagesBothWays) {
  Hosting hosting(2);
  Joining joining(hosting.options(), hello_of(1, 2));
  auto gathered = hosting.take();
  auto joined = joining.take();
  ASSERT_TRUE(gathered.ok() && joined.ok());
  std::promise<ControlMessage> at_host;
  std::promise<ControlMessage> at_node;

  gathered->links[1]->send({.kind = 16, .bytes = {std::byte{1}}});
  joined->link->send({.kind = 17, .bytes = {std::byte{2}}});
  gathered->links[1]->start({.on_message = [&](ControlMessage m) { at_host.set_value(m); }});
  joined->link->start({.on_message = [&](ControlMessage m) { at_node.set_value(m); }});

  EXPECT_EQ(at_host.get_future().get().kind, 17U);
  EXPECT_EQ(at_node.get_future().get().kind, 16U);
}

TEST(Rendezvous, NeedsNobodyForOneNode) {
  Hosting hosting(1);
  auto gathered = hosting.take();
  ASSERT_TRUE(gathered.ok());
  EXPECT_EQ(gathered->roster.nodes.size(), 1U);
}

TEST(Rendezvous, WorksOverIpv6AndByName) {
  for (const char* address : {"[::1]:0", "localhost:0"}) {
    const auto probe = RendezvousHost::listen({.address = address});
    if (!probe.ok() && address[0] == '[') continue;  // no IPv6 here
    Hosting hosting(2, address);
    Joining joining(hosting.options(), hello_of(1, 2));
    EXPECT_TRUE(hosting.take().ok());
    EXPECT_TRUE(joining.take().ok());
  }
}

TEST(Rendezvous, NodesWaitForAHostThatIsNotThereYet) {
  RendezvousOptions options;
  {
    const Hosting hosting(2);
    options = hosting.options();
  }
  Joining joining(options, hello_of(1, 2));
  ASSERT_TRUE(joining.wait_until_told("cannot connect"));

  auto host = RendezvousHost::listen(options);
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_TRUE((*host)->gather(hello_of(0, 2), {}).ok());
  EXPECT_TRUE(joining.take().ok());
}

TEST(Rendezvous, TellsANodeWhyItIsRefusedAndGoesOn) {
  Hosting hosting(2);
  const auto refusal = [&](const RendezvousOptions& options, const NodeHello& hello) {
    auto joined = Joining(options, hello).take();
    EXPECT_FALSE(joined.ok());
    EXPECT_EQ(joined.error().kind, ErrorKind::InvalidInput);
    return joined.error().message;
  };
  NodeHello other = hello_of(1, 2);
  other.model = "another model";
  EXPECT_THAT(
      refusal(hosting.options(), other), HasSubstr("model another model, node 0 has fable")
  );
  EXPECT_THAT(refusal(hosting.options(), hello_of(1, 3)), HasSubstr("--nnodes 3, node 0 has 2"));
  EXPECT_THAT(refusal(hosting.options(), hello_of(0, 2)), HasSubstr("taken by node 0"));
  RendezvousOptions wrong = hosting.options();
  wrong.secret = "open barley";
  EXPECT_THAT(refusal(wrong, hello_of(1, 2)), HasSubstr("secret"));

  Joining right(hosting.options(), hello_of(1, 2));
  EXPECT_TRUE(hosting.take().ok());
  EXPECT_TRUE(right.take().ok());
}

TEST(Rendezvous, RefusesASecondNodeOfTheSameNumber) {
  Hosting hosting(3);
  Joining first(hosting.options(), hello_of(1, 3));
  ASSERT_TRUE(first.wait_until_told("waiting for node 2\n"));

  auto second = Joining(hosting.options(), hello_of(1, 3)).take();

  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr("the place of node 1 is taken by 127.0.0.1:"));
}

TEST(Rendezvous, FreesThePlaceOfANodeThatLeft) {
  Hosting hosting(3);
  {
    Joining leaving(hosting.options(), hello_of(1, 3));
    ASSERT_TRUE(leaving.wait_until_told("waiting for node 2\n"));
  }
  Joining second(hosting.options(), hello_of(2, 3));
  ASSERT_TRUE(second.wait_until_told("waiting for node 1\n"));
  Joining back(hosting.options(), hello_of(1, 3));

  EXPECT_TRUE(hosting.take().ok());
  EXPECT_TRUE(back.take().ok());
}

TEST(Rendezvous, GathersAgainUnderALaterEpoch) {
  Hosting hosting(2);
  std::uint32_t epoch = 0;
  for (int round = 0; round < 3; ++round) {
    Joining joining(hosting.options(), hello_of(1, 2));
    auto gathered = hosting.take();
    auto joined = joining.take();
    ASSERT_TRUE(gathered.ok() && joined.ok());
    EXPECT_GT(gathered->roster.epoch, epoch);
    epoch = gathered->roster.epoch;
    std::promise<void> lost;
    gathered->links[1]->start({.on_message = {}, .on_lost = [&](const Error&) { lost.set_value(); }}
    );

    joined->link.reset();

    lost.get_future().wait();
    gathered->links[1]->close();
    hosting.begin(2);
  }
}

TEST(Rendezvous, AnswersWhileTheGroupStands) {
  Hosting hosting(2);
  Joining first(hosting.options(), hello_of(1, 2));
  auto gathered = hosting.take();
  ASSERT_TRUE(gathered.ok() && first.take().ok());
  hosting.attend();

  NodeHello other = hello_of(1, 2);
  other.layout = "ep 8";
  const auto refused = Joining(hosting.options(), other).take();
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("ep 8"));
  EXPECT_THAT(refused.error().message, HasSubstr("node 0 at 127.0.0.1:"));
  Joining spare(hosting.options(), hello_of(1, 2));
  EXPECT_TRUE(spare.wait_until_told("another holds this node's place"));
  hosting.end_attendance();
  hosting.begin(2);

  const auto again = hosting.take();
  const auto joined = spare.take();
  ASSERT_TRUE(again.ok() && joined.ok());
  EXPECT_EQ(joined->roster.epoch, again->roster.epoch);
  EXPECT_GT(again->roster.epoch, gathered->roster.epoch);
}

TEST(Rendezvous, AttendanceThatWasEndedBeforeItBeganEndsAtOnce) {
  Hosting hosting(1);
  ASSERT_TRUE(hosting.take().ok());
  hosting.attend();
  hosting.end_attendance();
  hosting.attend();
  hosting.end_attendance();

  hosting.begin(1);
  ASSERT_TRUE(hosting.take().ok());
  hosting.attend();
  hosting.stop();
}

TEST(Rendezvous, StrangersNeitherEnterNorHoldUpOthers) {
  Hosting hosting(2);
  const FileHandle silent = hosting.connect();
  const FileHandle browser = hosting.connect();
  const FileHandle slow = hosting.connect();
  const FileHandle huge = hosting.connect();
  const std::string_view request = "GET / HTTP/1.1\r\n\r\n";
  ::send(browser.get(), request.data(), request.size(), MSG_NOSIGNAL);
  ::send(slow.get(), "PLC", 3, MSG_NOSIGNAL);
  const std::string promise = std::string("PLC1\1\0\0\0\xff\xff\xff\x7f", 12);
  ::send(huge.get(), promise.data(), promise.size(), MSG_NOSIGNAL);
  ::send(huge.get(), promise.data(), promise.size(), MSG_NOSIGNAL);
  ::send(huge.get(), promise.data(), promise.size(), MSG_NOSIGNAL);

  EXPECT_EQ(read_to_the_end(browser), "");
  EXPECT_EQ(read_to_the_end(huge), "");

  // The silent ones still hold their connections.
  Joining joining(hosting.options(), hello_of(1, 2));
  EXPECT_TRUE(hosting.take().ok());
  EXPECT_TRUE(joining.take().ok());
}

TEST(Rendezvous, DropsTheSlowWithinTheLimit) {
  const Hosting hosting(2);
  const FileHandle silent = hosting.connect();
  const FileHandle slow = hosting.connect();
  ::send(slow.get(), "PLC1", 4, MSG_NOSIGNAL);

  EXPECT_EQ(read_to_the_end(silent), "");
  EXPECT_EQ(read_to_the_end(slow), "");
}

TEST(Rendezvous, BelievesNoProofOfAnotherConversation) {
  Hosting hosting(2);
  FrameChannel stranger(hosting.connect());
  stranger.queue(LinkFrame::Open, encode_opening({.nonce = fresh_nonce()}));
  stranger.queue(LinkFrame::Proof, Transcript{}.digest("open sesame", kJoinerProof));
  EXPECT_TRUE(stranger.flush().ok());

  std::optional<ControlMessage> last;
  while (!last || last->kind != static_cast<std::uint32_t>(LinkFrame::Refusal)) {
    auto frame = stranger.next();
    ASSERT_TRUE(frame.ok()) << frame.error().message;
    if (*frame) {
      last = **frame;
      continue;
    }
    pollfd event{.fd = stranger.fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&event, 1, 20'000), 1);
    ASSERT_TRUE(stranger.fill().ok());
  }
  const std::string why(reinterpret_cast<const char*>(last->bytes.data()), last->bytes.size());
  EXPECT_THAT(why, HasSubstr("secret"));
}

TEST(Rendezvous, RefusesAnotherProtocol) {
  Hosting hosting(2);
  FrameChannel stranger(hosting.connect());
  stranger.queue(LinkFrame::Open, encode_opening({.protocol = 9, .nonce = fresh_nonce()}));
  EXPECT_TRUE(stranger.flush().ok());
  pollfd event{.fd = stranger.fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&event, 1, 20'000), 1);
  ASSERT_TRUE(stranger.fill().ok());
  const auto frame = stranger.next();
  ASSERT_TRUE(frame.ok() && *frame);
  EXPECT_EQ((*frame)->kind, static_cast<std::uint32_t>(LinkFrame::Refusal));
}

TEST(Rendezvous, NodesDoNotBelieveAHostWithoutTheSecret) {
  const auto listener = listen_at(*resolve({.host = "127.0.0.1", .port = "0"}, true));
  const std::string address = local_address(*listener).text();
  Joining joining({.address = address, .secret = "open sesame"}, hello_of(1, 2));
  pollfd arrival{.fd = listener->get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&arrival, 1, 20'000), 1);
  SocketAddress peer;
  FrameChannel impostor(accept_from(*listener, peer));
  impostor.queue(LinkFrame::Challenge, encode_opening({.nonce = fresh_nonce()}));
  impostor.queue(LinkFrame::Proof, fresh_nonce());
  EXPECT_TRUE(impostor.flush().ok());

  auto joined = joining.take();

  ASSERT_FALSE(joined.ok());
  EXPECT_EQ(joined.error().kind, ErrorKind::InvalidInput);
  EXPECT_THAT(joined.error().message, HasSubstr("does not know the cluster secret"));
}

TEST(Rendezvous, StopsBothSides) {
  Hosting hosting(3);
  Joining joining(hosting.options(), hello_of(1, 3));
  ASSERT_TRUE(joining.wait_until_told("waiting for node 2\n"));

  joining.stop();
  EXPECT_EQ(joining.take().error().kind, ErrorKind::Cancelled);
  hosting.stop();
  EXPECT_EQ(hosting.take().error().kind, ErrorKind::Cancelled);
}

}  // namespace
}  // namespace pleiad::comm
