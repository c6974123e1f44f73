#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/transfer_id.h"

// What one worker tells another that takes over a prompt's keys and values: a stream of records,
// each a head of fixed size and a payload. Believes nothing: heads are sealed, lines are checked.
namespace pleiad::kv {

enum class RecordKind : std::uint32_t {
  Lines = 1,        // payload: the lines themselves
  SharedLines = 2,  // payload: numbers of the pages of a shared cache that hold them, in order
  Alive = 3,        // nothing yet; the sender is at work
  Commit = 4,       // everything was sent: so many records of lines, so many bytes
  Failed = 5,       // nothing more comes; payload: why, in words
};

// Lines of tokens [first, first + tokens) and heads [first_head, first_head + heads) in one layer.
struct RecordHead {
  RecordKind kind = RecordKind::Alive;
  std::uint32_t payload_bytes = 0;
  std::uint64_t epoch = 0;  // of the TransferId
  std::uint64_t number = 0;
  std::uint32_t attempt = 0;
  std::int32_t layer = 0;
  std::int64_t first = 0;
  std::int64_t tokens = 0;
  std::int32_t first_head = 0;
  std::int32_t heads = 0;
  std::uint32_t dtype = 0;     // device::DType
  std::uint32_t cache = 0;     // which shared cache
  std::uint64_t checksum = 0;  // of the lines, see checksum_piece()
  std::uint64_t records = 0;   // of Commit
  std::uint64_t bytes = 0;     // of Commit
  std::uint64_t seal = 0;      // of all above, and of the payload unless it is lines

  [[nodiscard]] TransferId id() const { return {epoch, number, attempt}; }
  void set_id(const TransferId& id) {
    epoch = id.epoch;
    number = id.number;
    attempt = id.attempt;
  }
};

// Bytes of one payload at most.
inline constexpr std::size_t kPayloadBytesMax = std::size_t{1} << 20U;

// Appends a record to `out`; its payload_bytes and seal are set here. REQUIRES: a payload within
// the limit.
void append_record(RecordHead head, std::span<const std::byte> payload, std::string& out);

// A record as it came. The payload lies with the reader.
struct Record {
  RecordHead head;
  std::span<const std::byte> payload;
};

// Cuts a stream of bytes into records. Memory grows with what has come.
class RecordReader {
 public:
  void feed(std::string_view bytes);
  // The next whole record, valid until the next call; nothing while it is incomplete. Fails with
  // Corrupt for what is no record; the stream is of no more use then.
  Result<std::optional<Record>> next();

 private:
  std::vector<std::byte> buffer_;
  std::size_t taken_ = 0;  // of buffer_
};

}  // namespace pleiad::kv
