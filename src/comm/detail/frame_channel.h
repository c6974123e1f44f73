#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "comm/detail/file_handle.h"
#include "comm/detail/frame.h"
#include "comm/detail/secret.h"

namespace pleiad::comm {

// The link's own kinds of frames.
enum class LinkFrame : std::uint32_t {
  Open = 1,       // joiner: protocol, nonce
  Challenge = 2,  // host: protocol, nonce
  Proof = 3,      // each side's, over both nonces
  Hello = 4,      // joiner: who it is
  Refusal = 5,    // host: why not
  Waiting = 6,    // host: nodes that are missing
  Roster = 7,     // host: everybody is there
  Heartbeat = 8,  // either, when there is nothing else to say
};

// Frames over a connected socket that never blocks. One thread at a time.
class FrameChannel {
 public:
  FrameChannel() = default;
  explicit FrameChannel(FileHandle socket) : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const { return socket_.get(); }
  FrameReader& reader() { return reader_; }
  // Both directions from here on.
  void use_keys(const Digest& sending, const Digest& receiving);

  // Queues a frame behind what is unsent.
  void queue(std::uint32_t kind, std::span<const std::byte> bytes);
  void queue(LinkFrame kind, std::span<const std::byte> bytes) {
    queue(static_cast<std::uint32_t>(kind), bytes);
  }
  // Sends what the socket takes. Unavailable when the connection is gone.
  Result<void> flush();
  [[nodiscard]] std::size_t unsent() const { return out_.size() - sent_; }
  // Reads what has come, at most some hundred KiB. Unavailable when the connection is gone.
  Result<void> fill();
  Result<std::optional<ControlMessage>> next() { return reader_.next(); }

 private:
  FileHandle socket_;
  FrameReader reader_;
  FrameSeal seal_;
  std::vector<std::byte> out_;
  std::size_t sent_ = 0;  // of out_
};

}  // namespace pleiad::comm
