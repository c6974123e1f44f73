#include "plan/layout_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "plan/routing_expectation.h"

namespace pleiad::plan {
namespace {

std::int64_t divided_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}

Result<void> check_input(const LayoutReportInput& input) {
  const ModelFacts& facts = input.facts;
  struct Count {
    std::string_view name;
    std::int64_t value;
  };
  const Count counts[] = {
      {"layers", facts.layers},
      {"moe_layers", facts.moe_layers},
      {"hidden", facts.hidden},
      {"experts", facts.experts},
      {"topk", facts.topk},
      {"expert_bytes", facts.expert_bytes},
      {"kv_bytes_per_token", facts.kv_bytes_per_token},
      {"activation_bytes", facts.activation_bytes},
      {"device_memory_bytes", input.device_memory_bytes},
      {"step_rows", input.step_rows},
      {"kv_page_tokens", input.kv_page_tokens},
  };
  for (const Count& count : counts) {
    if (count.value < 1) {
      return invalid_input("{} is {}; it must be at least 1", count.name, count.value);
    }
  }
  if (facts.topk > facts.experts || facts.experts > INT32_MAX) {
    return invalid_input("topk {} of {} experts is no choice", facts.topk, facts.experts);
  }
  if (!(input.memory_fraction > 0.0 && input.memory_fraction <= 1.0)) {
    return invalid_input(
        "memory_fraction is {}; it must be in (0, 1], nearest valid value 1", input.memory_fraction
    );
  }
  return {};
}

// Rows at once that a rank receives, under the level whose buffers are larger when both may come.
std::int64_t receive_rows(const LayoutReportInput& input) {
  const std::int64_t tokens = input.step_rows * input.layout.dp_size;
  const std::int64_t level1 = level1_rows_at_once(input.settings, tokens, input.facts.topk);
  const std::int64_t level2 =
      level2_receive_rows(input.settings, tokens, input.facts.topk, input.layout.ep_size);
  switch (input.settings.level) {
    case EpLevel::Auto:
      return std::max(level1, level2);
    case EpLevel::AllGather:
      return level1;
    case EpLevel::AllToAll:
      return level2;
  }
  return level1;
}

// Everything but the KV cache.
RankBytes held_bytes(const LayoutReportInput& input, const RoutingExpectation& routing) {
  const ModelFacts& facts = input.facts;
  const ParallelLayout& layout = input.layout;
  RankBytes out{
      .dense = facts.dense_bytes - bytes_left_to_others(facts, layout.tp_size),
      .scratch = facts.scratch_bytes};
  out.experts = divided_up(facts.experts, layout.ep_size) * facts.moe_layers *
                divided_up(facts.expert_bytes, layout.moe_tp_size);
  // One rank alone sends nothing.
  if (layout.ranks() == 1) return out;
  const std::int64_t own_rows = divided_up(input.step_rows, layout.tp_size);
  const std::int64_t received = receive_rows(input);
  const auto& rows_max = routing.return_rows_max;
  const std::int64_t returned = *std::max_element(rows_max.begin(), rows_max.end());
  std::int64_t awaited = 0;
  for (const std::int64_t rows : rows_max) {
    awaited += rows;
  }
  awaited = std::min(awaited, facts.topk) * layout.moe_tp_size;
  out.dispatch_buffers = (own_rows + received) * dispatch_record_bytes(facts);
  out.combine_buffers = (received * returned + own_rows * awaited) * return_row_bytes(facts);
  return out;
}

LevelTraffic traffic(const LayoutReportInput& input, double rows_out, double rows_back) {
  const auto ranks = static_cast<double>(input.layout.ranks());
  // A token stands on each rank equally often, so one of `ranks` rows stays at home.
  const double leaving = 1.0 - 1.0 / ranks;
  return {
      .rows_dispatched = rows_out,
      .rows_returned = rows_back,
      .bytes_dispatched =
          rows_out * leaving * static_cast<double>(dispatch_record_bytes(input.facts)),
      .bytes_returned = rows_back * leaving * static_cast<double>(return_row_bytes(input.facts)),
  };
}

RoutingExpectation routing_over(const ModelFacts& facts, std::int32_t ep_size) {
  return expect_uniform_routing(
      ExpertPlacement::contiguous(static_cast<std::int32_t>(facts.experts), ep_size),
      routing_of(facts)
  );
}

// Whether at least one page of KV cache is left.
bool fits_with(LayoutReportInput input, std::int32_t ep_size, std::int64_t budget) {
  const std::int32_t ranks = ep_size * input.layout.moe_tp_size;
  if (ranks % input.layout.tp_size != 0) return false;
  input.layout.ep_size = ep_size;
  input.layout.dp_size = ranks / input.layout.tp_size;
  const RankBytes bytes = held_bytes(input, routing_over(input.facts, ep_size));
  const std::int64_t token = kv_bytes_on_rank(input.facts, input.layout.tp_size);
  return bytes.without_kv() + token * input.kv_page_tokens <= budget;
}

// The smallest ep_size beyond the layout's that leaves room for a page, or 0.
std::int32_t ep_size_that_fits(const LayoutReportInput& input, std::int64_t budget) {
  const auto most =
      std::min<std::int64_t>(input.facts.experts, kRanksMax / input.layout.moe_tp_size);
  for (std::int32_t size = input.layout.ep_size + 1; size <= most; ++size) {
    // Sizes that leave the largest share as it is only add ranks.
    const bool smaller_share =
        divided_up(input.facts.experts, size) < divided_up(input.facts.experts, size - 1);
    if (smaller_share && fits_with(input, size, budget)) return size;
  }
  return 0;
}

void refuse_what_does_not_fit(LayoutReport& report) {
  const LayoutReportInput& input = report.input;
  if (report.kv_tokens > 0) return;
  const std::int64_t page = input.facts.kv_bytes_per_token * input.kv_page_tokens;
  const std::int64_t needed = report.rank.without_kv() + page;
  std::string refusal = fmt::format(
      "a rank needs {} for weights, buffers, scratch and one page of KV cache; {} x {} leaves {}",
      bytes_text(static_cast<double>(needed)),
      bytes_text(static_cast<double>(input.device_memory_bytes)),
      input.memory_fraction,
      bytes_text(static_cast<double>(report.budget_bytes))
  );
  const std::int32_t ep_size = ep_size_that_fits(input, report.budget_bytes);
  if (ep_size > 0) {
    refusal += fmt::format("; nearest --ep-size that fits: {}", ep_size);
  } else {
    refusal += fmt::format(
        "; no larger --ep-size fits, nearest --device-memory: {}",
        bytes_text(std::ceil(static_cast<double>(needed) / input.memory_fraction))
    );
  }
  report.refusals.push_back(std::move(refusal));
}

void add_notes(LayoutReport& report) {
  const ParallelLayout& layout = report.input.layout;
  const ModelFacts& facts = report.input.facts;
  auto& notes = report.notes;
  if (report.experts_per_rank_min == 0) {
    notes.push_back(fmt::format(
        "ep_size {} is beyond the {} experts: some ranks hold none", layout.ep_size, facts.experts
    ));
  } else if (report.experts_per_rank_min < report.experts_per_rank_max) {
    notes.push_back(fmt::format(
        "experts are uneven: {} on some ranks, {} on others",
        report.experts_per_rank_max,
        report.experts_per_rank_min
    ));
  }
  if (report.level2.rows_returned > report.level2.rows_dispatched * 1.001) {
    notes.emplace_back(
        "experts of a rank are no whole subtree: some tokens come back as several rows; a power of "
        "two of experts per rank avoids that"
    );
  }
  if (layout.tp_size > 1 && facts.kv_heads == 0) {
    notes.emplace_back("tp_size ranks hold the same KV cache: one latent serves all heads");
  } else if (layout.tp_size > 1 && layout.tp_size > facts.kv_heads) {
    notes.push_back(fmt::format(
        "tp_size {} is beyond the {} heads of keys and values: some are held more than once",
        layout.tp_size,
        facts.kv_heads
    ));
  }
}

}  // namespace

std::string bytes_text(double bytes) {
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024.0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.2f} {}", bytes, kUnits[unit]);
}

Result<LayoutReport> report_layout(const LayoutReportInput& input) {
  PLEIAD_TRY(check_input(input));
  LayoutReport report{.input = input};
  const ParallelLayout& layout = input.layout;
  const ModelFacts& facts = input.facts;
  if (const auto valid = check_model(layout, facts); !valid.ok()) {
    report.refusals.push_back(valid.error().message);
  }
  if (const auto valid = validate(input.settings); !valid.ok()) {
    report.refusals.push_back(valid.error().message);
    return report;
  }
  const RoutingExpectation routing = routing_over(facts, layout.ep_size);
  report.experts_per_rank_min = facts.experts / layout.ep_size;
  report.experts_per_rank_max = divided_up(facts.experts, layout.ep_size);
  report.rank = held_bytes(input, routing);
  report.budget_bytes = static_cast<std::int64_t>(
      std::floor(static_cast<double>(input.device_memory_bytes) * input.memory_fraction)
  );
  const std::int64_t page_bytes = kv_bytes_on_rank(facts, layout.tp_size) * input.kv_page_tokens;
  const std::int64_t left =
      std::max<std::int64_t>(report.budget_bytes - report.rank.without_kv(), 0);
  report.rank.kv = left / page_bytes * page_bytes;
  report.kv_tokens = left / page_bytes * input.kv_page_tokens;
  report.kv_tokens_all = report.kv_tokens * layout.dp_size;
  const double shards = layout.moe_tp_size;
  const double returned = routing.rows_returned() * shards;
  report.level1 = traffic(input, layout.ranks(), returned);
  report.level2 = traffic(input, routing.ranks_reached() * shards, returned);
  add_notes(report);
  refuse_what_does_not_fit(report);
  return report;
}

}  // namespace pleiad::plan
