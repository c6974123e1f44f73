#include "engine/step_batch.h"

#include <algorithm>
#include <type_traits>

#include "base/check.h"
#include "kv/paged_cache.h"

namespace pleiad::engine {
namespace {

// The rooms agree on the page without including each other.
static_assert(model::kPageTokens == sched::kPageTokens);
static_assert(kv::kPageTokens == sched::kPageTokens);

// Kernels see page ids as plain integers.
const std::uint32_t* page_table(std::span<const sched::PageId> pages) {
  static_assert(sizeof(sched::PageId) == sizeof(std::uint32_t));
  static_assert(std::is_standard_layout_v<sched::PageId>);
  return reinterpret_cast<const std::uint32_t*>(pages.data());
}

}  // namespace

StepBatch::StepBatch(std::int64_t rows_max, std::int64_t logit_rows_max, std::int64_t vocabulary)
    : vocabulary_(static_cast<std::size_t>(vocabulary)) {
  const auto rows = static_cast<std::size_t>(rows_max);
  const auto logit_rows = static_cast<std::size_t>(logit_rows_max);
  tokens_.reserve(rows);
  positions_.reserve(rows);
  rows_.reserve(rows);
  logit_rows_.reserve(logit_rows);
  first_logit_row_.reserve(rows);
  logits_.resize(logit_rows * vocabulary_);
  draws_.resize(logit_rows);
  drawn_.resize(logit_rows);
}

void StepBatch::assemble(
    const sched::Scheduler& scheduler,
    std::span<const sched::PlannedChunk> plan
) {
  tokens_.clear();
  positions_.clear();
  rows_.clear();
  logit_rows_.clear();
  first_logit_row_.clear();
  for (const sched::PlannedChunk& chunk : plan) {
    const std::span<const TokenId> tokens = scheduler.tokens(chunk.slot);
    const std::uint32_t* pages = page_table(scheduler.pages(chunk.slot));
    first_logit_row_.push_back(logit_rows_.size());
    for (std::int64_t i = 0; i < chunk.count; ++i) {
      const std::int64_t position = chunk.first + i;
      const bool ends = chunk.last && i + 1 == chunk.count;
      if (ends || chunk.all_logits) {
        logit_rows_.push_back(static_cast<std::int32_t>(tokens_.size()));
      }
      tokens_.push_back(tokens[static_cast<std::size_t>(position)]);
      positions_.push_back(position);
      rows_.push_back({.page_table = pages, .position = position});
    }
  }
  PLEIAD_CHECK(logit_rows_.size() * vocabulary_ <= logits_.size());
  std::fill_n(draws_.begin(), logit_rows_.size(), model::Draw{});
  std::fill_n(drawn_.begin(), logit_rows_.size(), model::Drawn{});
}

model::Batch StepBatch::batch() {
  return {
      .tokens = tokens_,
      .positions = positions_,
      .rows = rows_,
      .logit_rows = logit_rows_,
      .logits = logits_,
      .draws = std::span(draws_).first(logit_rows_.size()),
      .drawn = drawn_,
  };
}

std::span<const float> StepBatch::logits(std::size_t logit_row) const {
  PLEIAD_CHECK(logit_row < logit_rows_.size());
  return std::span(logits_).subspan(logit_row * vocabulary_, vocabulary_);
}

}  // namespace pleiad::engine
