#include "kv/assembly.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace pleiad::kv {

Assembly::Assembly(TransferPlan plan) : plan_(std::move(plan)) {
  PLEIAD_CHECK(plan_.first >= 0 && plan_.first < plan_.end);
  PLEIAD_CHECK(static_cast<std::int64_t>(plan_.pages.size()) * kPageTokens >= plan_.end);
  next_.assign(static_cast<std::size_t>(plan_.shape.layers * plan_.shape.heads), plan_.first);
  in_hand_.resize(plan_.shape.bytes(plan_.shape.heads) * static_cast<std::size_t>(kPageTokens));
}

Result<Assembly::Taken> Assembly::take(const Record& record) {
  if (record.head.id() != plan_.id) return Taken::Dropped;
  switch (record.head.kind) {
    case RecordKind::Alive:
      return Taken::Nothing;
    case RecordKind::Lines:
    case RecordKind::SharedLines:
      return take_lines(record);
    case RecordKind::Commit:
      PLEIAD_TRY(check_commit(record.head));
      return Taken::Committed;
    case RecordKind::Failed:
      break;
  }
  return unavailable(
      "{}",
      std::string_view(reinterpret_cast<const char*>(record.payload.data()), record.payload.size())
  );
}

// Every number of a record of lines comes from outside.
Result<void> Assembly::check_range(const RecordHead& head) const {
  const LineShape& shape = plan_.shape;
  const bool tokens = head.first >= 0 && head.tokens > 0 && head.tokens <= plan_.end &&
                      head.first <= plan_.end - head.tokens;
  const bool heads = head.first_head >= 0 && head.heads > 0 && head.heads <= shape.heads &&
                     head.first_head <= shape.heads - head.heads;
  if (head.layer < 0 || head.layer >= shape.layers || !tokens || !heads) {
    return corrupt(
        "lines of layer {}, tokens {} + {}, heads {} + {}; wanted are {} layers, tokens {} to {}, "
        "{} heads",
        head.layer,
        head.first,
        head.tokens,
        head.first_head,
        head.heads,
        shape.layers,
        plan_.first,
        plan_.end,
        shape.heads
    );
  }
  if (head.dtype != static_cast<std::uint32_t>(shape.dtype)) {
    return corrupt(
        "lines of dtype {}, the cache's is {}", head.dtype, static_cast<std::uint32_t>(shape.dtype)
    );
  }
  return {};
}

Result<Assembly::Taken> Assembly::take_lines(const Record& record) {
  const RecordHead& head = record.head;
  PLEIAD_TRY(check_range(head));
  const std::int64_t due = next(head.layer, head.first_head);
  for (std::int32_t h = 0; h < head.heads; ++h) {
    if (next(head.layer, head.first_head + h) != due) {
      return corrupt("lines of layer {} whose heads do not go together", head.layer);
    }
  }
  if (head.first + head.tokens <= due) return Taken::Dropped;
  if (head.first != due) {
    return corrupt("lines of layer {} from token {}, {} is due", head.layer, head.first, due);
  }
  const std::size_t bytes = plan_.shape.bytes(head.heads) * static_cast<std::size_t>(head.tokens);
  std::uint64_t sum = 0;
  if (head.kind == RecordKind::Lines) {
    if (record.payload.size() != bytes) {
      return corrupt("{} bytes of lines, {} were told", record.payload.size(), bytes);
    }
    sum = copy_lines(record);
  } else {
    PLEIAD_TRY(copied, copy_shared_lines(record));
    sum = copied;
  }
  if (sum != head.checksum) {
    return corrupt(
        "lines of layer {} from token {} on have checksum {:016x}, {:016x} was told",
        head.layer,
        head.first,
        sum,
        head.checksum
    );
  }
  for (std::int32_t h = 0; h < head.heads; ++h) {
    next(head.layer, head.first_head + h) = head.first + head.tokens;
  }
  bytes_ += bytes;
  ++records_;
  return Taken::Lines;
}

// The checksum of what was copied.
std::uint64_t Assembly::copy_lines(const Record& record) {
  const RecordHead& head = record.head;
  const HeadRange heads{head.first_head, head.heads};
  const std::int64_t end = head.first + head.tokens;
  std::uint64_t sum = 0;
  std::span<const std::byte> rest = record.payload;
  for (std::int64_t token = head.first; token < end;) {
    const PagePiece piece = piece_at(token, end);
    const auto bytes = plan_.shape.bytes(heads.count) * static_cast<std::size_t>(piece.count);
    const auto lines = rest.first(bytes);
    sum = checksum_piece(sum, lines);
    for (const PartCache& part : plan_.parts) {
      scatter(lines, heads, part, head.layer, plan_.pages[piece.page], piece);
    }
    rest = rest.subspan(bytes);
    token += piece.count;
  }
  return sum;
}

// The sender may lose its pages while they are read: what is checked is what was copied.
Result<std::uint64_t> Assembly::copy_shared_lines(const Record& record) {
  const RecordHead& head = record.head;
  const HeadRange heads{head.first_head, head.heads};
  const std::int64_t end = head.first + head.tokens;
  const std::int64_t first_page = head.first / kPageTokens;
  const auto pages = static_cast<std::size_t>((end + kPageTokens - 1) / kPageTokens - first_page);
  if (head.cache >= plan_.sources.size() ||
      record.payload.size() != pages * sizeof(std::uint32_t)) {
    return corrupt(
        "lines in {} bytes of page numbers of shared cache {}", record.payload.size(), head.cache
    );
  }
  const PartSource& source = plan_.sources[head.cache];
  if (source.plan.heads != heads) return corrupt("a shared cache does not hold the heads told");
  std::uint64_t sum = 0;
  for (std::int64_t token = head.first; token < end;) {
    const PagePiece piece = piece_at(token, end);
    const auto index = piece.page - static_cast<std::size_t>(first_page);
    std::uint32_t page = 0;
    std::memcpy(&page, record.payload.data() + index * sizeof(page), sizeof(page));
    if (page >= source.plan.pages) return corrupt("page {} of {}", page, source.plan.pages);
    const auto bytes = plan_.shape.bytes(heads.count) * static_cast<std::size_t>(piece.count);
    const std::byte* from = source.base + source.plan.offset(head.layer, page, piece.line);
    // Straight into the first part that has these heads, all others from there.
    const auto direct = std::ranges::find_if(plan_.parts, [&heads](const PartCache& part) {
      return part.plan.heads == heads;
    });
    std::byte* copy = in_hand_.data();
    const std::uint32_t own = plan_.pages[piece.page];
    if (direct != plan_.parts.end()) {
      copy = direct->base + direct->plan.offset(head.layer, own, piece.line);
    }
    std::memcpy(copy, from, bytes);
    const std::span<const std::byte> lines(copy, bytes);
    sum = checksum_piece(sum, lines);
    for (auto part = plan_.parts.begin(); part != plan_.parts.end(); ++part) {
      if (part != direct) scatter(lines, heads, *part, head.layer, own, piece);
    }
    token += piece.count;
  }
  return sum;
}

Result<void> Assembly::check_commit(const RecordHead& head) const {
  const auto missing =
      std::ranges::count_if(next_, [this](std::int64_t token) { return token != plan_.end; });
  if (missing > 0) {
    return corrupt("a commit while lines of {} layers and heads are missing", missing);
  }
  if (head.records != records_ || head.bytes != bytes_) {
    return corrupt(
        "a commit of {} records, {} bytes; {} records, {} bytes came",
        head.records,
        head.bytes,
        records_,
        bytes_
    );
  }
  return {};
}

}  // namespace pleiad::kv
