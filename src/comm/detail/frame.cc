#include "comm/detail/frame.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "base/wire_bytes.h"

namespace pleiad::comm {
namespace {

constexpr std::uint32_t kMagic = 0x31434C50U;  // "PLC1"

}  // namespace

FrameSeal::Tag FrameSeal::next_tag(std::uint32_t kind, std::span<const std::byte> bytes) {
  ByteWriter head;
  head.number(number_++);
  head.number(kind);
  head.number(static_cast<std::uint32_t>(bytes.size()));
  const std::vector<std::byte> numbered = head.take();
  Tag tag{};
  if (key_) {
    const Digest digest = keyed_digest(*key_, {numbered, bytes});
    std::memcpy(tag.data(), digest.data(), tag.size());
  } else {
    const std::uint64_t sum = hash64(bytes, hash64(numbered));
    std::memcpy(tag.data(), &sum, sizeof sum);
  }
  return tag;
}

void append_frame(
    FrameSeal& seal,
    std::uint32_t kind,
    std::span<const std::byte> bytes,
    std::vector<std::byte>& out
) {
  ByteWriter head;
  head.number(kMagic);
  head.number(kind);
  head.number(static_cast<std::uint32_t>(bytes.size()));
  head.raw(seal.next_tag(kind, bytes));
  const std::vector<std::byte> written = head.take();
  out.insert(out.end(), written.begin(), written.end());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void FrameReader::feed(std::span<const std::byte> bytes) {
  if (taken_ == buffer_.size()) {
    buffer_.clear();
    taken_ = 0;
  } else if (taken_ > buffer_.size() / 2) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<ControlMessage>> FrameReader::next() {
  const std::span<const std::byte> rest = std::span(buffer_).subspan(taken_);
  const std::size_t seen = std::min(rest.size(), sizeof kMagic);
  const bool ours = seen == 0 || std::memcmp(rest.data(), &kMagic, seen) == 0;
  if (!ours) return corrupt("bytes that are not Pleiad's");
  if (rest.size() < kFrameHeadBytes) return std::optional<ControlMessage>();
  ByteReader reader(rest.subspan(sizeof kMagic));
  PLEIAD_TRY(kind, reader.number<std::uint32_t>());
  PLEIAD_TRY(length, reader.number<std::uint32_t>());
  if (length > bytes_max_) return corrupt("a frame of {} bytes, at most {}", length, bytes_max_);
  if (rest.size() < kFrameHeadBytes + length) return std::optional<ControlMessage>();
  PLEIAD_TRY(tag, reader.take(sizeof(FrameSeal::Tag)));
  PLEIAD_TRY(bytes, reader.take(length));
  if (!same_bytes(tag, seal_.next_tag(kind, bytes))) return corrupt("a frame with a wrong tag");
  taken_ += kFrameHeadBytes + length;
  return std::optional(ControlMessage{.kind = kind, .bytes = {bytes.begin(), bytes.end()}});
}

}  // namespace pleiad::comm
