#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "comm/control_link.h"
#include "comm/detail/secret.h"

namespace pleiad::comm {

// The frames of one direction of a connection: kind, length, tag, bytes. Before the peers know each
// other the tag is a checksum; afterwards it is a MAC over everything and the frame's number, so
// that no frame can be forged, altered, dropped, repeated or moved.
class FrameSeal {
 public:
  using Tag = std::array<std::byte, 16>;

  void use_key(const Digest& key) { key_ = key; }
  // The tag of the next frame.
  Tag next_tag(std::uint32_t kind, std::span<const std::byte> bytes);

 private:
  std::optional<Digest> key_;
  std::uint64_t number_ = 0;
};

inline constexpr std::size_t kFrameHeadBytes = 4 + 4 + 4 + sizeof(FrameSeal::Tag);

// Appends `kind` and `bytes` as a frame to `out`.
void append_frame(
    FrameSeal& seal,
    std::uint32_t kind,
    std::span<const std::byte> bytes,
    std::vector<std::byte>& out
);

// Cuts a stream of bytes into frames. Memory grows with what has come, never with what is promised.
class FrameReader {
 public:
  // Frames with more bytes than this are refused.
  void set_limit(std::size_t bytes_max) { bytes_max_ = bytes_max; }
  FrameSeal& seal() { return seal_; }

  void feed(std::span<const std::byte> bytes);
  // The next whole frame; nothing while it is incomplete. Corrupt for what is no frame, too long or
  // has a wrong tag; then the stream is of no more use.
  Result<std::optional<ControlMessage>> next();

 private:
  FrameSeal seal_;
  std::size_t bytes_max_ = 256;
  std::vector<std::byte> buffer_;
  std::size_t taken_ = 0;  // of buffer_
};

}  // namespace pleiad::comm
