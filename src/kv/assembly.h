#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/transfer_id.h"
#include "kv/lines.h"
#include "kv/record.h"

namespace pleiad::kv {

// What a transfer is to bring, and where it goes.
struct TransferPlan {
  TransferId id;
  LineShape shape;
  std::int64_t first = 0;  // tokens [first, end) of the sequence
  std::int64_t end = 0;
  std::vector<PartCache> parts;      // to write to: every tensor part of the rank that receives
  std::vector<std::uint32_t> pages;  // page table of the sequence, the same in every part
  std::vector<PartSource> sources;   // shared caches of the sender, as its records number them
};

// Puts a sequence's keys and values together from records of another worker. It is the only one
// that writes the pages, and copies before it checks: until take() has said Committed nobody may
// read them. Every line of every layer and head must come exactly once, in ascending order within
// its layer and heads. One thread at a time; allocates at construction only.
class Assembly {
 public:
  enum class Taken {
    Lines,      // copied
    Nothing,    // the sender is alive
    Dropped,    // of another transfer, or lines that are here already
    Committed,  // everything is here, as the sender counts too
  };

  explicit Assembly(TransferPlan plan);

  // Takes the next record. Fails with Corrupt when it contradicts itself, its checksum or the plan,
  // or when a Commit comes too early; with Unavailable and the sender's words when it gave up. The
  // pages are then undefined, and nothing more may be taken.
  Result<Taken> take(const Record& record);

  [[nodiscard]] const TransferPlan& plan() const { return plan_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t records() const { return records_; }

 private:
  [[nodiscard]] Result<void> check_range(const RecordHead& head) const;
  Result<Taken> take_lines(const Record& record);
  [[nodiscard]] std::uint64_t copy_lines(const Record& record);
  Result<std::uint64_t> copy_shared_lines(const Record& record);
  [[nodiscard]] Result<void> check_commit(const RecordHead& head) const;
  std::int64_t& next(std::int64_t layer, std::int64_t head) {
    return next_[static_cast<std::size_t>(layer * plan_.shape.heads + head)];
  }

  TransferPlan plan_;
  std::vector<std::int64_t> next_;  // [layers, heads]: the first token that has not come
  std::vector<std::byte> in_hand_;  // lines of one page, on their way
  std::uint64_t bytes_ = 0;         // of lines
  std::uint64_t records_ = 0;       // of lines
};

}  // namespace pleiad::kv
