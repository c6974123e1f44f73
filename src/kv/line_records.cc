#include "kv/line_records.h"

#include <algorithm>
#include <vector>

#include "kv/record.h"

namespace pleiad::kv {
namespace {

// Of the lines of one record: they stay in the processor's cache from the first look to the last.
constexpr std::size_t kRecordBytes = std::size_t{256} << 10U;

RecordHead
head_of(const PartCache& part, const LineRun& run, std::int64_t first, std::int64_t end) {
  RecordHead head{
      .layer = static_cast<std::int32_t>(run.layer),
      .first = first,
      .tokens = end - first,
      .first_head = static_cast<std::int32_t>(part.plan.heads.first),
      .heads = static_cast<std::int32_t>(part.plan.heads.count),
      .dtype = static_cast<std::uint32_t>(part.plan.shape.dtype)};
  head.set_id(run.id);
  return head;
}

// Calls visit(lines of a piece) for the tokens [first, end).
template <typename Visit>
void for_pieces(
    const PartCache& part,
    const LineRun& run,
    std::int64_t first,
    std::int64_t end,
    Visit visit
) {
  const std::size_t line = part.plan.shape.bytes(part.plan.heads.count);
  for (std::int64_t token = first; token < end;) {
    const PagePiece piece = piece_at(token, end);
    const std::byte* lines =
        part.base + part.plan.offset(run.layer, run.pages[piece.page], piece.line);
    visit(std::span(lines, line * static_cast<std::size_t>(piece.count)));
    token += piece.count;
  }
}

// Cuts the run into records: calls make(first, end) for each.
template <typename Make>
RecordCount cut(const PartCache& part, const LineRun& run, Make make) {
  const std::size_t line = part.plan.shape.bytes(part.plan.heads.count);
  const auto tokens = std::max<std::int64_t>(1, static_cast<std::int64_t>(kRecordBytes / line));
  RecordCount count;
  for (std::int64_t first = run.first; first < run.end; first += tokens) {
    const std::int64_t end = std::min(first + tokens, run.end);
    make(first, end);
    ++count.records;
    count.bytes += line * static_cast<std::size_t>(end - first);
  }
  return count;
}

}  // namespace

RecordCount append_lines(const PartCache& part, const LineRun& run, std::string& out) {
  std::vector<std::byte> payload;
  return cut(part, run, [&](std::int64_t first, std::int64_t end) {
    RecordHead head = head_of(part, run, first, end);
    head.kind = RecordKind::Lines;
    payload.clear();
    for_pieces(part, run, first, end, [&](std::span<const std::byte> lines) {
      head.checksum = checksum_piece(head.checksum, lines);
      payload.insert(payload.end(), lines.begin(), lines.end());
    });
    append_record(head, payload, out);
  });
}

RecordCount append_shared_lines(
    const PartCache& part,
    std::uint32_t cache,
    const LineRun& run,
    std::string& out
) {
  return cut(part, run, [&](std::int64_t first, std::int64_t end) {
    RecordHead head = head_of(part, run, first, end);
    head.kind = RecordKind::SharedLines;
    head.cache = cache;
    for_pieces(part, run, first, end, [&](std::span<const std::byte> lines) {
      head.checksum = checksum_piece(head.checksum, lines);
    });
    const auto first_page = static_cast<std::size_t>(first / kPageTokens);
    const auto end_page = static_cast<std::size_t>((end + kPageTokens - 1) / kPageTokens);
    append_record(head, std::as_bytes(run.pages.subspan(first_page, end_page - first_page)), out);
  });
}

}  // namespace pleiad::kv
