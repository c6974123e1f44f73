#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace pleiad::comm {

// A message between two nodes: what kind, and its bytes. Kinds below 16 are the link's own.
struct ControlMessage {
  std::uint32_t kind = 0;
  std::vector<std::byte> bytes;
};

inline constexpr std::uint32_t kControlKindFirst = 16;       // first kind that callers may use
inline constexpr std::size_t kControlBytesMax = 64U << 20U;  // of one message

// What happens on a link; called on the link's own thread, one call at a time.
struct ControlEvents {
  std::function<void(ControlMessage)> on_message;
  // The peer is gone (connection closed or cut, heartbeat limit passed, garbage). Last call.
  std::function<void(Error)> on_lost;
};

// An authenticated TCP connection between node 0 and another node that stays open for the life of
// an epoch: requests, token events, membership. A peer that says nothing for longer than
// `heartbeat_limit` is lost; one whose process dies is lost at once.
class ControlLink {
 public:
  virtual ~ControlLink() = default;
  // Begins to read and to call `events`.
  virtual void start(ControlEvents events) = 0;
  // Queues a message; never blocks. Any thread. After the link is lost it goes nowhere. A queue
  // longer than `queue_bytes_max` loses the link: a peer that never reads stalls nobody.
  virtual void send(ControlMessage message) = 0;
  // Closes without on_lost. Blocks until no call of `events` is under way (not from inside one).
  virtual void close() = 0;
  [[nodiscard]] virtual std::string peer() const = 0;  // "node 1 (10.0.0.2:41022)"
};

struct ControlOptions {
  std::chrono::milliseconds heartbeat_interval{250};
  std::chrono::milliseconds heartbeat_limit{5'000};
  std::size_t queue_bytes_max = 256U << 20U;
};

}  // namespace pleiad::comm
