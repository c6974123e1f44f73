#include "kv/record.h"

#include <cstring>
#include <type_traits>

#include "base/check.h"
#include "base/hash.h"

namespace pleiad::kv {
namespace {

static_assert(std::is_trivially_copyable_v<RecordHead>);
static_assert(std::has_unique_object_representations_v<RecordHead>, "no byte is left unsaid");

// Lines have a checksum of their own, which whoever copies them makes on the way.
std::uint64_t seal_of(const RecordHead& head, std::span<const std::byte> payload) {
  const auto fields = std::as_bytes(std::span(&head, 1)).first(offsetof(RecordHead, seal));
  const std::uint64_t sum = hash64(fields);
  return head.kind == RecordKind::Lines ? sum : hash64(payload, sum);
}

bool known(RecordKind kind) {
  switch (kind) {
    case RecordKind::Lines:
    case RecordKind::SharedLines:
    case RecordKind::Alive:
    case RecordKind::Commit:
    case RecordKind::Failed:
      return true;
  }
  return false;
}

}  // namespace

void append_record(RecordHead head, std::span<const std::byte> payload, std::string& out) {
  PLEIAD_CHECK(payload.size() <= kPayloadBytesMax);
  head.payload_bytes = static_cast<std::uint32_t>(payload.size());
  head.seal = seal_of(head, payload);
  out.append(reinterpret_cast<const char*>(&head), sizeof(head));
  out.append(reinterpret_cast<const char*>(payload.data()), payload.size());
}

void RecordReader::feed(std::string_view bytes) {
  if (taken_ > 0) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
  }
  const auto more = std::as_bytes(std::span(bytes));
  buffer_.insert(buffer_.end(), more.begin(), more.end());
}

Result<std::optional<Record>> RecordReader::next() {
  const std::span<const std::byte> rest = std::span(buffer_).subspan(taken_);
  if (rest.size() < sizeof(RecordHead)) return std::optional<Record>();
  Record record;
  std::memcpy(&record.head, rest.data(), sizeof(RecordHead));
  const std::size_t payload = record.head.payload_bytes;
  if (!known(record.head.kind) || payload > kPayloadBytesMax) {
    return corrupt(
        "a record of kind {} with {} bytes", static_cast<std::uint32_t>(record.head.kind), payload
    );
  }
  if (rest.size() < sizeof(RecordHead) + payload) return std::optional<Record>();
  record.payload = rest.subspan(sizeof(RecordHead), payload);
  if (seal_of(record.head, record.payload) != record.head.seal) {
    return corrupt("a record whose seal is broken");
  }
  taken_ += sizeof(RecordHead) + payload;
  return std::optional(record);
}

}  // namespace pleiad::kv
