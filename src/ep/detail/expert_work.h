#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "ep/expert_exchange.h"
#include "ep/route.h"

namespace pleiad::ep {

// The rows that this rank computes in one round: its own first, then each source's together.
struct ExpertExchange::Work {
  // Rows of one source, as a range of the arrays below.
  struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  float* x = nullptr;        // [work_rows, hidden]
  Route* routes = nullptr;   // [work_rows, topk]
  float* weights = nullptr;  // [work_rows, topk]
  std::int64_t rows = 0;
  std::span<Range> sources;  // [ranks]
};

// Whether one of a row's choices is computed by `holder`.
inline bool wants(std::span<const Route> routes, std::int32_t holder) {
  return std::ranges::any_of(routes, [&](const Route& route) { return route.holder == holder; });
}

}  // namespace pleiad::ep
