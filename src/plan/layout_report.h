#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "plan/ep_settings.h"
#include "plan/model_facts.h"
#include "plan/parallel_layout.h"

namespace pleiad::plan {

struct LayoutReportInput {
  ModelFacts facts;
  ParallelLayout layout;
  EpSettings settings;
  std::int64_t device_memory_bytes = 0;  // of one rank
  double memory_fraction = 0.8;          // of it, for all that is counted here
  std::int64_t step_rows = 512;          // the most that one dp rank runs in a step
  std::int64_t kv_page_tokens = 64;
};

// Bytes that one rank holds; of uneven ranks, the largest.
struct RankBytes {
  std::int64_t dense = 0;
  std::int64_t experts = 0;
  std::int64_t dispatch_buffers = 0;  // rows to be sent and rows received
  std::int64_t combine_buffers = 0;   // results to be returned and results awaited
  std::int64_t scratch = 0;
  std::int64_t kv = 0;  // what the others leave, in whole pages

  [[nodiscard]] std::int64_t without_kv() const {
    return dense + experts + dispatch_buffers + combine_buffers + scratch;
  }
};

// Traffic of one token in one MoE layer, routed uniformly. Rows count every rank, the token's own
// included; bytes only what goes to another rank and comes back.
struct LevelTraffic {
  double rows_dispatched = 0;
  double rows_returned = 0;
  double bytes_dispatched = 0;
  double bytes_returned = 0;

  [[nodiscard]] double bytes() const { return bytes_dispatched + bytes_returned; }
};

struct LayoutReport {
  LayoutReportInput input;
  std::int64_t experts_per_rank_min = 0;
  std::int64_t experts_per_rank_max = 0;
  RankBytes rank;
  std::int64_t budget_bytes = 0;   // device memory times fraction
  std::int64_t kv_tokens = 0;      // that fit on one dp rank
  std::int64_t kv_tokens_all = 0;  // on all of them
  LevelTraffic level1;
  LevelTraffic level2;
  std::vector<std::string> notes;     // what a reader may not expect
  std::vector<std::string> refusals;  // rules broken, each with the nearest valid value

  [[nodiscard]] bool fits() const { return refusals.empty(); }
};

// What a layout would hold and send, with contiguous placement of the experts. Broken rules and a
// model that does not fit are refusals in the report. Fails with InvalidInput only when the facts
// or the input are no numbers to reckon with (a count of zero, topk beyond the experts).
Result<LayoutReport> report_layout(const LayoutReportInput& input);

// Aligned text for a terminal, ending with a newline.
std::string to_text(const LayoutReport& report);
// The same numbers, in bytes and rows, for programs.
Json to_json(const LayoutReport& report);

// "12.3 GiB".
std::string bytes_text(double bytes);

}  // namespace pleiad::plan
