#include "comm/detail/frame_channel.h"

#include <array>
#include <cerrno>

#include <sys/socket.h>

#include "comm/detail/socket.h"

namespace pleiad::comm {
namespace {

constexpr std::size_t kReadBytes = 65536;
constexpr int kReadsMax = 8;  // of one fill()

bool would_block(int number) {
  return number == EAGAIN || number == EINTR;
}

}  // namespace

void FrameChannel::use_keys(const Digest& sending, const Digest& receiving) {
  seal_.use_key(sending);
  reader_.seal().use_key(receiving);
}

void FrameChannel::queue(std::uint32_t kind, std::span<const std::byte> bytes) {
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
  }
  append_frame(seal_, kind, bytes, out_);
}

Result<void> FrameChannel::flush() {
  while (unsent() > 0) {
    const ssize_t taken =
        ::send(socket_.get(), out_.data() + sent_, unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0 && would_block(errno)) return {};
    if (taken < 0) return unavailable("the connection is gone: {}", error_text(errno));
    sent_ += static_cast<std::size_t>(taken);
  }
  return {};
}

Result<void> FrameChannel::fill() {
  std::array<std::byte, kReadBytes> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (int reads = 0; reads < kReadsMax; ++reads) {
    const ssize_t taken = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (taken < 0 && would_block(errno)) return {};
    if (taken < 0) return unavailable("the connection is gone: {}", error_text(errno));
    if (taken == 0) return unavailable("the peer closed the connection");
    reader_.feed(std::span(bytes).first(static_cast<std::size_t>(taken)));
    if (static_cast<std::size_t>(taken) < bytes.size()) return {};
  }
  return {};
}

}  // namespace pleiad::comm
