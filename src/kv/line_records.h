#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/transfer_id.h"
#include "kv/lines.h"

// The sender's side of a transfer: records from the pages of one tensor part.
namespace pleiad::kv {

// Lines to send: tokens [first, end) of a sequence in one layer.
struct LineRun {
  TransferId id;
  std::int64_t layer = 0;
  std::int64_t first = 0;
  std::int64_t end = 0;
  std::span<const std::uint32_t> pages;  // page table of the sequence
};

// What was appended.
struct RecordCount {
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;  // of lines
};

// Appends records that carry the lines, none longer than some hundred KiB.
RecordCount append_lines(const PartCache& part, const LineRun& run, std::string& out);

// Appends records that say where in shared cache `cache`, which is `part`, the lines are.
RecordCount append_shared_lines(
    const PartCache& part,
    std::uint32_t cache,
    const LineRun& run,
    std::string& out
);

}  // namespace pleiad::kv
