#include "engine/node_report.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>

#include "api/generation_wire.h"
#include "base/check.h"
#include "base/wire_bytes.h"
#include "comm/control_link.h"

namespace pleiad::engine {
namespace {

constexpr std::size_t kStatusBytesMax = 256;  // of one rank

// Everything else together is small.
static_assert(
    kReportTextMax + kReportTokensMax * sizeof(std::uint64_t) + plan::kRanksMax * std::size_t{512} <
    comm::kControlBytesMax
);

// In the order of the wire.
constexpr std::array<std::uint64_t EpTotals::*, 8> kTotals = {
    &EpTotals::dispatch_bytes,
    &EpTotals::combine_bytes,
    &EpTotals::dispatch_wait_ns,
    &EpTotals::combine_wait_ns,
    &EpTotals::rows_sent,
    &EpTotals::assignments,
    &EpTotals::extra_rounds,
    &EpTotals::extra_passes,
};
static_assert(kTotals.size() * sizeof(std::uint64_t) == sizeof(EpTotals));

EpTotals totals_of(const ep::EpStats& stats) {
  const auto now = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  return {
      .dispatch_bytes = now(stats.dispatch_bytes),
      .combine_bytes = now(stats.combine_bytes),
      .dispatch_wait_ns = now(stats.dispatch_wait_ns),
      .combine_wait_ns = now(stats.combine_wait_ns),
      .rows_sent = now(stats.rows_sent),
      .assignments = now(stats.assignments),
      .extra_rounds = now(stats.extra_rounds),
      .extra_passes = now(stats.extra_passes),
  };
}

LabelRule rule_of(const plan::RankRange& ranks) {
  LabelRule rule{.name = "engine", .values = {}};
  for (std::int32_t i = 0; i < ranks.count; ++i) {
    rule.values.push_back(std::to_string(ranks.first + i));
  }
  return rule;
}

Result<RankCounts> read_rank(ByteReader& in) {
  RankCounts out;
  PLEIAD_TRY(bytes, in.bytes(kStatusBytesMax));
  PLEIAD_TRY(status, api::decode_status(bytes));
  out.status = status;
  for (const auto total : kTotals) {
    PLEIAD_TRY(value, in.number<std::uint64_t>());
    out.ep.*total = value;
  }
  return out;
}

Result<std::vector<std::uint64_t>> read_tokens(ByteReader& in, std::size_t expected) {
  PLEIAD_TRY(count, in.count(kReportTokensMax));
  if (count != expected) return corrupt("a report on {} experts, here are {}", count, expected);
  PLEIAD_TRY(bytes, in.take(count * sizeof(std::uint64_t)));
  std::vector<std::uint64_t> tokens(count);
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(tokens)).begin());
  return tokens;
}

}  // namespace

NodeCounts counts_of(std::span<const std::unique_ptr<Engine>> engines) {
  NodeCounts out;
  for (const auto& engine : engines) {
    out.ranks.push_back({.status = engine->status(), .ep = totals_of(engine->ep_stats())});
    const std::vector<std::uint64_t> tokens = engine->expert_tokens();
    out.expert_tokens.resize(tokens.size());
    std::ranges::transform(
        tokens, out.expert_tokens, out.expert_tokens.begin(), std::plus<std::uint64_t>()
    );
  }
  return out;
}

std::vector<std::byte> encode(const NodeReport& report) {
  PLEIAD_CHECK(report.counts.expert_tokens.size() <= kReportTokensMax);
  ByteWriter out;
  out.number(static_cast<std::uint32_t>(report.counts.ranks.size()));
  for (const RankCounts& rank : report.counts.ranks) {
    out.bytes(api::encode(rank.status));
    for (const auto total : kTotals) {
      out.number(rank.ep.*total);
    }
  }
  out.number(static_cast<std::uint32_t>(report.counts.expert_tokens.size()));
  out.raw(std::as_bytes(std::span(report.counts.expert_tokens)));
  const std::string text = to_text(report.metrics);
  out.text(text.size() <= kReportTextMax ? std::string_view(text) : std::string_view{});
  return out.take();
}

Result<NodeReport> decode_report(std::span<const std::byte> bytes, const ReportShape& shape) {
  ByteReader in(bytes);
  NodeReport out;
  PLEIAD_TRY(ranks, in.number<std::uint32_t>());
  if (ranks != static_cast<std::uint32_t>(shape.ranks.count)) {
    return corrupt("a report on {} ranks of a node with {}", ranks, shape.ranks.count);
  }
  for (std::uint32_t i = 0; i < ranks; ++i) {
    PLEIAD_TRY(rank, read_rank(in));
    out.counts.ranks.push_back(rank);
  }
  PLEIAD_TRY(tokens, read_tokens(in, shape.expert_tokens));
  out.counts.expert_tokens = std::move(tokens);
  PLEIAD_TRY(text, in.bytes(kReportTextMax));
  const std::string_view view(reinterpret_cast<const char*>(text.data()), text.size());
  PLEIAD_TRY(metrics, parse_exposition(view, rule_of(shape.ranks)));
  out.metrics = std::move(metrics);
  PLEIAD_TRY(in.end());
  return out;
}

}  // namespace pleiad::engine
