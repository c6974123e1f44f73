// Also tests: control_link.cc, frame_channel.cc
#include "comm/control_link.h"

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/random.h"
#include "comm/detail/socket_link.h"

namespace pleiad::comm {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds{20};

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Two connected sockets.
struct Wire {
  Wire() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    left = FileHandle(ends[0]);
    right = FileHandle(ends[1]);
  }

  FileHandle left;
  FileHandle right;
};

// Collects what happens on a link, which it outlives.
class Witness {
 public:
  ControlEvents events() {
    return {
        .on_message =
            [this](ControlMessage message) {
              const std::lock_guard lock(mutex_);
              messages_.push_back(std::move(message));
              changed_.notify_all();
            },
        .on_lost =
            [this](Error error) {
              const std::lock_guard lock(mutex_);
              lost_.push_back(std::move(error));
              changed_.notify_all();
            },
    };
  }
  bool wait_for_messages(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return messages_.size() >= count; });
  }
  Error wait_for_loss() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return !lost_.empty(); })) return {};
    return lost_.front();
  }
  std::vector<ControlMessage> messages() {
    const std::lock_guard lock(mutex_);
    return messages_;
  }
  std::size_t losses() {
    const std::lock_guard lock(mutex_);
    return lost_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ControlMessage> messages_;
  std::vector<Error> lost_;
};

std::unique_ptr<ControlLink> link_over(FileHandle socket, const ControlOptions& options = {}) {
  return make_control_link(FrameChannel(std::move(socket)), "node 1 (here)", options);
}

TEST(ControlLink, CarriesMessagesOfAllSizesInOrder) {
  Witness seen;
  Witness ignored;
  Wire wire;
  const auto left = link_over(std::move(wire.left));
  const auto right = link_over(std::move(wire.right));
  right->start(seen.events());
  left->start(ignored.events());
  const std::uint64_t seed = entropy_seed();
  fmt::print("seed {}\n", seed);
  Random random(seed);
  std::vector<std::size_t> sizes{0, 1, 5U << 20U};
  while (sizes.size() < 200) {
    sizes.push_back(random.below(5'000));
  }

  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto kind = static_cast<std::uint32_t>(kControlKindFirst + i);
    left->send({.kind = kind, .bytes = std::vector<std::byte>(sizes[i], static_cast<std::byte>(i))}
    );
  }

  ASSERT_TRUE(seen.wait_for_messages(sizes.size()));
  const auto messages = seen.messages();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(messages[i].kind, kControlKindFirst + i);
    EXPECT_EQ(messages[i].bytes, std::vector<std::byte>(sizes[i], static_cast<std::byte>(i)));
  }
}

TEST(ControlLink, TakesMessagesFromManyThreads) {
  Witness seen;
  Wire wire;
  const auto left = link_over(std::move(wire.left));
  const auto right = link_over(std::move(wire.right));
  right->start(seen.events());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        left->send({.kind = 20, .bytes = bytes_of("token")});
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_TRUE(seen.wait_for_messages(400));
}

TEST(ControlLink, LosesAPeerThatClosesAtOnce) {
  Witness seen;
  Wire wire;
  const auto left = link_over(std::move(wire.left));
  left->start(seen.events());

  { const FileHandle gone = std::move(wire.right); }

  const Error error = seen.wait_for_loss();
  EXPECT_EQ(error.kind, ErrorKind::Unavailable);
  EXPECT_THAT(error.message, HasSubstr("node 1 (here)"));
  left->send({.kind = 20, .bytes = {}});  // goes nowhere
  left->close();
  EXPECT_EQ(seen.losses(), 1U);
}

TEST(ControlLink, DeliversWhatCameBeforeTheEnd) {
  Witness seen;
  Wire wire;
  {
    const auto right = link_over(std::move(wire.right));
    right->send({.kind = 20, .bytes = bytes_of("last words")});
  }
  const auto left = link_over(std::move(wire.left));
  left->start(seen.events());

  EXPECT_EQ(seen.wait_for_loss().kind, ErrorKind::Unavailable);
  ASSERT_EQ(seen.messages().size(), 1U);
  EXPECT_EQ(seen.messages()[0].bytes, bytes_of("last words"));
}

TEST(ControlLink, LosesAPeerThatIsSilent) {
  Witness seen;
  Wire wire;
  const auto left = link_over(
      std::move(wire.left),
      {.heartbeat_interval = milliseconds{10}, .heartbeat_limit = milliseconds{100}}
  );
  left->start(seen.events());

  const Error error = seen.wait_for_loss();

  EXPECT_EQ(error.kind, ErrorKind::Timeout);
  EXPECT_THAT(error.message, HasSubstr("100 ms"));
}

TEST(ControlLink, BeatsWhileNothingIsSaidAndBeforeItIsStarted) {
  Witness seen;
  Wire wire;
  const ControlOptions left_options{
      .heartbeat_interval = milliseconds{10}, .heartbeat_limit = milliseconds{200}};
  const ControlOptions right_options{
      .heartbeat_interval = milliseconds{10}, .heartbeat_limit = milliseconds{20'000}};
  const auto left = link_over(std::move(wire.left), left_options);
  const auto right = link_over(std::move(wire.right), right_options);
  left->start(seen.events());
  // Three limits pass; only the other side's thread, which was never started, speaks.
  std::promise<void> never;

  EXPECT_EQ(never.get_future().wait_for(milliseconds{600}), std::future_status::timeout);

  EXPECT_EQ(seen.losses(), 0U);
}

TEST(ControlLink, LosesAPeerThatSpeaksGarbage) {
  Witness seen;
  Wire wire;
  const auto left = link_over(std::move(wire.left));
  left->start(seen.events());

  EXPECT_EQ(::send(wire.right.get(), "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);

  EXPECT_EQ(seen.wait_for_loss().kind, ErrorKind::Corrupt);
}

TEST(ControlLink, LosesAPeerThatUsesTheHandshakesKinds) {
  Witness seen;
  Wire wire;
  const auto left = link_over(std::move(wire.left));
  left->start(seen.events());
  FrameChannel right(std::move(wire.right));
  right.queue(LinkFrame::Hello, {});

  EXPECT_TRUE(right.flush().ok());

  const Error error = seen.wait_for_loss();
  EXPECT_EQ(error.kind, ErrorKind::Corrupt);
  EXPECT_THAT(error.message, HasSubstr("kind 4"));
}

TEST(ControlLink, LosesAPeerThatNeverReads) {
  Witness seen;
  Wire wire;
  const auto left = link_over(std::move(wire.left), {.queue_bytes_max = 1U << 20U});
  left->start(seen.events());

  for (int i = 0; i < 40; ++i) {
    left->send({.kind = 20, .bytes = std::vector<std::byte>(100'000)});
  }

  const Error error = seen.wait_for_loss();
  EXPECT_EQ(error.kind, ErrorKind::Exhausted);
  EXPECT_THAT(error.message, HasSubstr("at most 1048576"));
}

TEST(ControlLink, ClosesWithoutSayingThatItIsLost) {
  Witness closed;
  Witness other;
  Wire wire;
  const auto left = link_over(std::move(wire.left));
  const auto right = link_over(std::move(wire.right));
  left->start(closed.events());
  right->start(other.events());

  left->close();
  left->close();
  EXPECT_EQ(closed.losses(), 0U);
  EXPECT_EQ(other.wait_for_loss().kind, ErrorKind::Unavailable);
}

}  // namespace
}  // namespace pleiad::comm
