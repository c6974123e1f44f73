#include "engine/shared_batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/wire_bytes.h"

namespace pleiad::engine {
namespace {

constexpr std::string_view kStep = "rows of a step for tensor parts";

std::int64_t pages_of(std::int64_t positions) {
  return (positions + model::kPageTokens - 1) / model::kPageTokens;
}

// A sequence's rows in a step, and how many pages of its table they see.
struct Sequence {
  std::uint32_t rows = 0;
  std::uint32_t pages = 0;
};

struct Head {
  std::uint32_t rows = 0;
  std::uint32_t logit_rows = 0;
  std::uint32_t sequences = 0;
};

template <typename T>
void append(std::vector<std::byte>& message, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  message.insert(message.end(), bytes.begin(), bytes.end());
}

// Copies the next `count` values out of `in`.
template <typename T>
Result<void> take(ByteReader& in, std::size_t count, std::vector<T>& out) {
  PLEIAD_TRY(bytes, in.take(count * sizeof(T)));
  const std::size_t before = out.size();
  out.resize(before + count);
  std::memcpy(out.data() + before, bytes.data(), bytes.size());
  return {};
}

}  // namespace

SharedBatch::SharedBatch(const model::TensorPlace& place, const Limits& limits)
    : place_(place), limits_(limits) {
  const auto rows = static_cast<std::size_t>(limits.rows_max);
  const auto sequences = static_cast<std::size_t>(limits.sequences_max);
  const auto logit_rows = static_cast<std::size_t>(limits.logit_rows_max);
  const std::size_t pages = sequences * static_cast<std::size_t>(pages_of(limits.context_max));
  message_.reserve(
      sizeof(Head) + sequences * sizeof(Sequence) + pages * sizeof(std::uint32_t) +
      rows * (sizeof(TokenId) + sizeof(std::int64_t)) + logit_rows * sizeof(std::int32_t)
  );
  if (place.leads()) return;
  tokens_.reserve(rows);
  positions_.reserve(rows);
  rows_.reserve(rows);
  logit_rows_.reserve(logit_rows);
  pages_.reserve(pages);
}

Result<void> SharedBatch::send(comm::Group& group, const model::Batch& batch) {
  if (mark_ > 0) PLEIAD_TRY(group.wait_sends(kStep, mark_));
  message_.resize(sizeof(Head));
  Head head{
      .rows = static_cast<std::uint32_t>(batch.tokens.size()),
      .logit_rows = static_cast<std::uint32_t>(batch.logit_rows.size())};
  append(message_, batch.tokens);
  append(message_, batch.positions);
  append(message_, batch.logit_rows);
  for (std::size_t begin = 0; begin < batch.rows.size(); ++head.sequences) {
    const std::uint32_t* table = batch.rows[begin].page_table;
    std::size_t end = begin;
    std::int64_t last = 0;
    for (; end < batch.rows.size() && batch.rows[end].page_table == table; ++end) {
      last = std::max(last, batch.rows[end].position);
    }
    const Sequence sequence{
        static_cast<std::uint32_t>(end - begin), static_cast<std::uint32_t>(pages_of(last + 1))};
    append(message_, std::span(&sequence, 1));
    append(message_, std::span(table, sequence.pages));
    begin = end;
  }
  std::memcpy(message_.data(), &head, sizeof(head));
  for (std::int32_t part = 1; part < place_.parts; ++part) {
    group.send(place_.first_rank + part, message_);
  }
  mark_ = group.sends();
  return {};
}

Result<model::Batch> SharedBatch::receive(comm::Group& group, std::int64_t rows) {
  message_.resize(message_.capacity());
  PLEIAD_TRY(size, group.receive(place_.first_rank, message_, kStep));
  auto valid = read(std::span(message_).first(size), rows);
  if (!valid.ok()) return with_context(std::move(valid).error(), kStep);
  return model::Batch{
      .tokens = tokens_, .positions = positions_, .rows = rows_, .logit_rows = logit_rows_};
}

Result<void> SharedBatch::read(std::span<const std::byte> bytes, std::int64_t rows) {
  tokens_.clear();
  positions_.clear();
  rows_.clear();
  logit_rows_.clear();
  pages_.clear();
  ByteReader in(bytes);
  PLEIAD_TRY(head, in.number<Head>());
  if (head.rows != rows || head.rows > limits_.rows_max ||
      head.logit_rows > limits_.logit_rows_max || head.sequences > limits_.sequences_max) {
    return corrupt(
        "{} rows of {} sequences, {} logits; {} rows were agreed on",
        head.rows,
        head.sequences,
        head.logit_rows,
        rows
    );
  }
  PLEIAD_TRY(take(in, head.rows, tokens_));
  PLEIAD_TRY(take(in, head.rows, positions_));
  PLEIAD_TRY(take(in, head.logit_rows, logit_rows_));
  for (std::uint32_t i = 0; i < head.sequences; ++i) {
    PLEIAD_TRY(sequence, in.number<Sequence>());
    const std::size_t first = rows_.size();
    if (sequence.rows > head.rows - first || sequence.pages > pages_of(limits_.context_max)) {
      return corrupt("a sequence of {} rows and {} pages", sequence.rows, sequence.pages);
    }
    const std::size_t table = pages_.size();
    PLEIAD_TRY(take(in, sequence.pages, pages_));
    for (std::size_t row = first; row < first + sequence.rows; ++row) {
      if (positions_[row] < 0 || pages_of(positions_[row] + 1) > sequence.pages) {
        return corrupt("position {} of {} pages", positions_[row], sequence.pages);
      }
      rows_.push_back({.page_table = pages_.data() + table, .position = positions_[row]});
    }
  }
  PLEIAD_TRY(in.end());
  const auto below = [](auto values, std::int64_t limit) {
    return std::ranges::all_of(values, [limit](auto value) {
      return std::cmp_greater_equal(value, 0) && std::cmp_less(value, limit);
    });
  };
  if (rows_.size() != head.rows || !below(std::span(tokens_), limits_.vocabulary) ||
      !below(std::span(logit_rows_), rows) || !below(std::span(pages_), limits_.pages)) {
    return corrupt("a token, row or page beyond the limits");
  }
  return {};
}

}  // namespace pleiad::engine
