#include "model/cuda/step_rows.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace pleiad::model::cuda {
namespace {

std::int64_t pages_of(std::int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

}  // namespace

std::int64_t recorded_rows(std::int64_t rows, std::int64_t recorded_rows_max) {
  const auto filled = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(rows)));
  return rows > 0 && filled <= recorded_rows_max ? filled : 0;
}

Result<StepRows> StepRows::create(const Limits& limits) {
  StepRows out(limits);
  // Every row may be a sequence of its own.
  const std::int64_t words =
      out.tables_begin() + limits.rows_max * pages_of(limits.context_max + 1);
  const std::size_t bytes = size(words) * sizeof(std::int32_t);
  PLEIAD_TRY(host, device::cuda::PinnedBuffer::allocate(bytes, "the rows of a step"));
  PLEIAD_TRY(memory, device::cuda::DeviceBuffer::allocate(bytes, "the rows of a step"));
  out.host_ = std::move(host);
  out.device_ = std::move(memory);
  return out;
}

kernels::cuda::RowPlaces StepRows::places() const {
  return {
      .positions = at(limits_.rows_max),
      .table_of = at(2 * limits_.rows_max),
      .tables = reinterpret_cast<const std::uint32_t*>(at(tables_begin())),
  };
}

// Each sequence's table once, as far as its last row needs it; how many words that took.
std::size_t StepRows::put_tables(std::span<const AttentionRow> rows, std::span<std::int32_t> words)
    const {
  const auto table_of = words.subspan(size(2 * limits_.rows_max), size(limits_.rows_max));
  const auto tables = words.subspan(size(tables_begin()));
  std::size_t used = 0;
  for (std::size_t first = 0; first < rows.size();) {
    std::size_t end = first;
    while (end < rows.size() && rows[end].page_table == rows[first].page_table) {
      table_of[end++] = static_cast<std::int32_t>(used);
    }
    const std::size_t pages = size(rows[end - 1].position / kPageTokens + 1);
    PLEIAD_CHECK(used + pages <= tables.size());
    for (std::size_t page = 0; page < pages; ++page) {
      tables[used++] = static_cast<std::int32_t>(rows[first].page_table[page]);
    }
    first = end;
  }
  return used;
}

void StepRows::upload(
    device::cuda::Stream& stream,
    const Batch& batch,
    std::int64_t rows,
    std::int64_t logit_rows
) {
  PLEIAD_CHECK(rows <= limits_.rows_max && logit_rows <= limits_.logit_rows_max);
  const auto words = host_.as<std::int32_t>();
  const std::size_t real = batch.tokens.size();
  for (std::size_t i = 0; i < size(rows); ++i) {
    const bool filler = i >= real;
    words[i] = filler ? 0 : static_cast<std::int32_t>(batch.tokens[i]);
    words[size(limits_.rows_max) + i] = filler ? -1 : static_cast<std::int32_t>(batch.positions[i]);
    words[size(2 * limits_.rows_max) + i] = 0;
  }
  for (std::size_t i = 0; i < size(logit_rows); ++i) {
    words[size(3 * limits_.rows_max) + i] = i < batch.logit_rows.size() ? batch.logit_rows[i] : 0;
  }
  const std::size_t used = put_tables(batch.rows, words);
  stream.copy_to_device(
      device_.data(), host_.data(), (size(tables_begin()) + used) * sizeof(std::int32_t)
  );
}

}  // namespace pleiad::model::cuda
