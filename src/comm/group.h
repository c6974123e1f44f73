#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pleiad::comm {

// A member's number in its group: 0 .. size - 1.
using Rank = std::int32_t;

// Memory that peers may write into, registered by all members together.
struct WindowId {
  std::uint32_t index = 0;
};

// Bytes that went through a group, as its own rank saw them.
struct Traffic {
  std::uint64_t bytes_sent = 0;  // payload to other ranks
  std::uint64_t bytes_received = 0;
  std::uint64_t messages_sent = 0;
  std::uint64_t messages_received = 0;
  double wait_seconds = 0.0;  // blocked on peers
};

// One rank's end of a group of ranks that exchange bytes: the members of one expert-parallel
// service, in one process or in many. Between each ordered pair of ranks runs a lane: messages
// arrive whole, once, in the order they were sent, and never lie (a checksum guards those that
// leave the process). Everything below is built of lanes, so ranks that make the same calls in the
// same order always meet.
//
// No call blocks for ever. A peer that is gone, silent for longer than the limit, or out of step
// breaks the group: the call fails with Unavailable, Timeout or Corrupt, and its message names the
// peer, the step and the limit. A broken group stays broken: every later call fails at once with
// the first error; a new group (of a later epoch) takes its place.
//
// One thread at a time, except interrupt() and abort().
class Group {
 public:
  virtual ~Group() = default;

  [[nodiscard]] virtual Rank rank() const = 0;
  [[nodiscard]] virtual Rank size() const = 0;
  [[nodiscard]] virtual Traffic traffic() const = 0;

  // --- Lanes ---------------------------------------------------------------------------------
  // `step` names what the caller is doing ("dispatch of layer 3"), for errors; it is copied only
  // when something fails, and must outlive the matching wait.

  // Starts sending `bytes` to `peer` (not to oneself); they must stay unchanged until a
  // wait_sends() that covers them.
  virtual void send(Rank peer, std::span<const std::byte> bytes) = 0;
  // Calls of send() so far, to all peers: a mark for wait_sends().
  [[nodiscard]] virtual std::uint64_t sends() const = 0;
  // Returns when the bytes of the first `up_to` sends may be reused (those of later ones may still
  // be on their way: two exchanges can overlap without waiting for each other).
  virtual Result<void> wait_sends(std::string_view step, std::uint64_t up_to) = 0;
  Result<void> wait_sends(std::string_view step) { return wait_sends(step, sends()); }
  // Offers `buffer` for the next message from `peer`, so that it can land while the caller
  // computes. At most kPostedMax offers of one lane are open. Transports without use for it
  // remember it only.
  virtual void post_receive(Rank peer, std::span<std::byte> buffer) = 0;
  // Waits for the oldest offer of `peer`'s lane and returns the message's size. A message larger
  // than its buffer breaks the group (Corrupt).
  virtual Result<std::size_t> wait_receive(Rank peer, std::string_view step) = 0;
  // post_receive and wait_receive in one.
  Result<std::size_t> receive(Rank peer, std::span<std::byte> buffer, std::string_view step);
  // Moves messages along without waiting; compute loops that last long may call it in between.
  // Messages move in calls of the group only: while a rank computes, its large messages wait.
  virtual void poll() = 0;

  static constexpr int kPostedMax = 8;

  // --- Waiting for work ------------------------------------------------------------------------

  enum class Wake { Message, Interrupted };
  // Sleeps, without limit and without using the processor, until some peer's message lies
  // unreceived or interrupt() was called (since the last time this returned Interrupted).
  virtual Result<Wake> wait_for_message() = 0;
  // Ends wait_for_message(), now or the next one. Any thread.
  virtual void interrupt() = 0;
  // Breaks the group with `reason`, here and (as far as they can be told) at the peers. Any thread.
  virtual void abort(Error reason) = 0;

  // --- Collectives: every rank makes the same call, with no offers of its own open ---------------

  Result<void> barrier(std::string_view step);
  // `bytes` of `root` on every rank.
  Result<void> broadcast(Rank root, std::span<std::byte> bytes, std::string_view step);
  // mine [n] -> all [size, n], in rank order.
  Result<void>
  all_gather(std::span<const std::byte> mine, std::span<std::byte> all, std::string_view step);
  // rows [size, n] -> sum over ranks of their row `rank()` [n], added along a fixed binary tree
  // over ranks, whatever arrives first.
  Result<void>
  reduce_scatter(std::span<const float> rows, std::span<float> sum, std::string_view step);
  // sends[r] goes to rank r and lands in r's receives[rank()]; sizes[r] tells how long the message
  // from r was. The own part is copied.
  Result<void> all_to_all_v(
      std::span<const std::span<const std::byte>> sends,
      std::span<const std::span<std::byte>> receives,
      std::span<std::size_t> sizes,
      std::string_view step
  );

  // --- One-sided writes ------------------------------------------------------------------------

  // Registers this rank's `memory` (any size, also none) under a number that is the same
  // everywhere. Collective; the memory must outlive the group.
  virtual Result<WindowId> open_window(std::span<std::byte> memory, std::string_view step) = 0;
  // Writes `bytes` at `offset` of `peer`'s window and then tells the peer; `bytes` must stay until
  // wait_puts(). Fails with InvalidInput when they do not fit.
  virtual Result<void>
  put(Rank peer, WindowId window, std::size_t offset, std::span<const std::byte> bytes) = 0;
  // Returns when all bytes given to put() may be reused.
  virtual Result<void> wait_puts(std::string_view step) = 0;
  // Waits until `count` puts of `peer` into one's own window, counted from the opening of the
  // window, are complete and visible.
  virtual Result<void>
  wait_put_from(Rank peer, WindowId window, std::uint64_t count, std::string_view step) = 0;

 private:
  std::vector<float> rows_;  // what reduce_scatter received; grows to the largest call
};

}  // namespace pleiad::comm
