#include "ep/detail/flight.h"

#include <string_view>

namespace pleiad::ep {

ExpertExchange::Flight::Flight(const Sizes& sizes, device::ArenaPlan& plan, int first, int last)
    : lanes(static_cast<std::size_t>(sizes.place.ranks)) {
  const auto rows = static_cast<std::size_t>(sizes.rows_max);
  const auto ranks = lanes.size();
  const auto choices = rows * static_cast<std::size_t>(sizes.topk);
  const auto hidden = static_cast<std::size_t>(sizes.hidden) * sizeof(float);
  const auto reserve = [&](std::string_view name, std::size_t bytes) {
    return plan.reserve(name, bytes, first, last);
  };
  routes = reserve("routes", choices * sizeof(Route));
  nodes = reserve("nodes", choices * sizeof(Node));
  node_starts = reserve("node starts", (rows + 1) * sizeof(std::int32_t));
  node_lines = reserve("node lines", choices * sizeof(std::int32_t));
  node_ids = reserve("node ids", choices * sizeof(std::int32_t));
  node_weights = reserve("node weights", choices * sizeof(float));
  lane_rows = reserve("rows of lanes", ranks * rows * sizeof(std::int32_t));
  send = reserve("dispatch out", ranks * sizes.message_bytes);
  receive = reserve("dispatch in", ranks * sizes.message_bytes);
  results_out = reserve("results out", ranks * sizes.results_bytes);
  results_in = reserve("results in", ranks * sizes.results_bytes);
  lines = reserve("result lines", choices * static_cast<std::size_t>(sizes.place.moe_tp) * hidden);
  shared = reserve("shared out", sizes.has_shared ? rows * hidden : 0);
}

}  // namespace pleiad::ep
