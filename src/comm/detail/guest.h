#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "comm/detail/frame_channel.h"
#include "comm/detail/secret.h"
#include "comm/detail/socket.h"
#include "comm/rendezvous.h"

namespace pleiad::comm {

inline constexpr std::uint32_t kProtocol = 1;             // of the handshake
inline constexpr std::size_t kHelloBytesMax = 4U << 20U;  // of a hello's frame
inline constexpr std::size_t kHandshakeBytesMax = 1'024;  // of frames before the secret is proved

// What Open and Challenge say.
struct Opening {
  std::uint32_t protocol = kProtocol;
  Nonce nonce{};
};

std::vector<std::byte> encode_opening(const Opening& opening);
Result<Opening> decode_opening(std::span<const std::byte> bytes);

// A connection to the host, from the first byte to its seat. It is believed step by step: it opens,
// proves the secret, says who it is. Whatever it does out of turn ends it.
class Guest {
 public:
  enum class Stage { Opening, Proving, Introducing, Introduced, Waiting, Seated, Dismissed };

  Guest(FileHandle socket, const SocketAddress& address, Nanoseconds deadline)
      : channel_(std::move(socket)), address_(address), deadline_(deadline) {
    channel_.reader().set_limit(kHandshakeBytesMax);
  }

  // Reads and answers what has come. An error ends the connection: nothing more can be told.
  Result<void> listen(std::string_view secret);
  // Tells why not; the connection stays until the guest closes it or its time is over.
  void dismiss(std::string_view why);
  void seat() { stage_ = Stage::Seated; }
  // It fits, but its place is held by another.
  void wait() { stage_ = Stage::Waiting; }
  // Whether it stays for as long as it lives.
  [[nodiscard]] bool may_stay() const {
    return stage_ == Stage::Waiting || stage_ == Stage::Seated;
  }

  FrameChannel& channel() { return channel_; }
  FrameChannel take_channel() { return std::move(channel_); }
  [[nodiscard]] Stage stage() const { return stage_; }
  [[nodiscard]] Nanoseconds deadline() const { return deadline_; }
  // REQUIRES: Introduced or later.
  [[nodiscard]] const NodeHello& hello() const { return hello_; }
  [[nodiscard]] std::string address() const { return address_.text(); }
  // Why it was dismissed; empty before.
  [[nodiscard]] const std::string& refusal() const { return refusal_; }

 private:
  Result<void> hear(const ControlMessage& frame, std::string_view secret);
  Result<void> hear_opening(const ControlMessage& frame);
  Result<void> hear_proof(const ControlMessage& frame, std::string_view secret);
  Result<void> hear_hello(const ControlMessage& frame);

  FrameChannel channel_;
  SocketAddress address_;
  Nanoseconds deadline_;
  Stage stage_ = Stage::Opening;
  Transcript transcript_{};
  NodeHello hello_;
  std::string refusal_;
};

}  // namespace pleiad::comm
