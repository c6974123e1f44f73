// The part of ExpertExchange that computes for whoever sent rows.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/check.h"
#include "ep/detail/exchange_stats.h"
#include "ep/detail/expert_work.h"
#include "ep/detail/flight.h"
#include "ep/expert_exchange.h"
#include "kernels/row_codec.h"
#include "kernels/tree_combine.h"

namespace pleiad::ep {

Result<void>
ExpertExchange::serve(const kernels::Context& context, device::Scratch& memory, int batch) {
  return serve_round({context, memory, *flights_.at(static_cast<std::size_t>(batch))}, 0);
}

ExpertExchange::Work ExpertExchange::open_work(device::Scratch& memory) const {
  return {
      .x = memory.get<float>(work_x_).data(),
      .routes = memory.get<Route>(work_routes_).data(),
      .weights = memory.get<float>(work_weights_).data(),
      .sources = memory.get<Work::Range>(work_sources_),
  };
}

Result<void> ExpertExchange::serve_round(const Call& call, std::int64_t round) {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  comm::Group& group = *flight.step.group->group;
  Work work = open_work(call.memory);
  std::ranges::fill(work.sources, Work::Range{});
  if (round == 0) take_own_rows(call, work);
  PLEIAD_TRY(take_peers_rows(call, round, work));
  const auto results = call.memory.get<std::byte>(flight.results_in);
  for (std::int32_t peer = 0; peer < s.place.ranks; ++peer) {
    const Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
    if (peer == s.place.rank || lane.expected == 0) continue;
    group.post_receive(
        peer, {slice(results, static_cast<std::size_t>(peer), s.results_bytes), s.results_bytes}
    );
  }
  compute(call, work);
  send_results(call);
  return {};
}

Result<void> ExpertExchange::take_peers_rows(const Call& call, std::int64_t round, Work& work) {
  const RankPlace& place = sizes_->place;
  const WaitTimer timer(*call.flight.step.group->group, place.stats->dispatch_wait_ns);
  for (std::int32_t i = 1; i < place.ranks; ++i) {
    const std::int32_t peer = (place.rank + place.ranks - i) % place.ranks;
    if (call.flight.lanes[static_cast<std::size_t>(peer)].rounds_in <= round) continue;
    PLEIAD_TRY(take_rows_from(call, peer, work));
  }
  return {};
}

void ExpertExchange::take_own_rows(const Call& call, Work& work) const {
  const Sizes& s = *sizes_;
  const Flight& flight = call.flight;
  const auto topk = static_cast<std::size_t>(s.topk);
  const auto routes = call.memory.get<Route>(call.flight.routes);
  const auto hidden = static_cast<std::size_t>(s.hidden);
  for (std::int64_t row = 0; row < flight.step.rows; ++row) {
    const auto mine = routes.subspan(static_cast<std::size_t>(row) * topk, topk);
    if (!wants(mine, s.ep_rank())) continue;
    const std::int64_t at = work.rows++;
    std::ranges::copy(mine, work.routes + at * s.topk);
    std::copy_n(flight.step.gate_weights + row * s.topk, topk, work.weights + at * s.topk);
    std::copy_n(flight.step.x + row * s.hidden, hidden, work.x + at * s.hidden);
  }
  work.sources[static_cast<std::size_t>(s.place.rank)] = {0, work.rows};
}

Result<void> ExpertExchange::take_rows_from(const Call& call, std::int32_t peer, Work& work) {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
  PLEIAD_TRY(size, flight.step.group->group->wait_receive(peer, kDispatch));
  const auto buffer = call.memory.get<std::byte>(flight.receive);
  const DispatchLimits limits{
      .rows_max = s.lane_rows,
      .rounds_max = divide_up(s.rows_max, s.lane_rows),
      .placement = flight.step.placement,
  };
  auto read = read_dispatch(
      s.format, limits, {slice(buffer, static_cast<std::size_t>(peer), s.message_bytes), size}
  );
  if (!read.ok()) return with_context(std::move(read).error(), fmt::format("from rank {}", peer));
  const DispatchView& view = *read;
  lane.rounds_in = view.head.rounds;

  const auto topk = static_cast<std::size_t>(s.topk);
  const auto chosen = call.memory.get<std::int32_t>(work_picks_);
  const std::int64_t begin = work.rows;
  for (std::uint32_t row = 0; row < view.head.rows; ++row) {
    const auto routes = view.routes.subspan(row * topk, topk);
    if (!wants(routes, s.ep_rank())) continue;
    chosen[static_cast<std::size_t>(work.rows - begin)] = static_cast<std::int32_t>(row);
    const std::int64_t at = work.rows++;
    std::ranges::copy(routes, work.routes + at * s.topk);
    std::ranges::copy(view.weights.subspan(row * topk, topk), work.weights + at * s.topk);
  }
  kernels::unpack_rows(
      call.context,
      {.bytes = view.x.data(),
       .from_rows = chosen.data(),
       .dtype = s.format.dtype,
       .rows = work.rows - begin,
       .width = s.hidden,
       .y = work.x + begin * s.hidden}
  );
  work.sources[static_cast<std::size_t>(peer)] = {begin, work.rows};
  return {};
}

// Runs the experts on all work rows, as many at once as the limit allows.
void ExpertExchange::compute(const Call& call, const Work& work) {
  const Sizes& s = *sizes_;
  for (Flight::Lane& lane : call.flight.lanes) {
    lane.results = 0;
  }
  std::int64_t begin = 0;
  std::int64_t assignments = 0;
  for (std::int64_t row = 0; row < work.rows; ++row) {
    const std::span routes(work.routes + row * s.topk, static_cast<std::size_t>(s.topk));
    const std::int64_t mine = std::ranges::count_if(routes, [&](const Route& route) {
      return route.holder == s.ep_rank();
    });
    if (assignments + mine > s.pass_max) {
      compute_pass(call, work, begin, row);
      count(s.place.stats->extra_passes, 1);
      begin = row;
      assignments = 0;
    }
    assignments += mine;
    count(s.place.stats->assignments, static_cast<std::size_t>(mine));
  }
  if (begin < work.rows) compute_pass(call, work, begin, work.rows);
}

// Nodes of the pass's rows follow each other as the rows do, so every source's are a run.
void ExpertExchange::compute_pass(
    const Call& call,
    const Work& work,
    std::int64_t begin,
    std::int64_t end
) {
  const Sizes& s = *sizes_;
  const auto experts = call.memory.get<std::int32_t>(pass_experts_);
  const auto rows = call.memory.get<std::int32_t>(pass_rows_);
  const auto weights = call.memory.get<float>(pass_weights_);
  const auto starts = call.memory.get<std::int32_t>(pass_starts_);
  std::array<Node, kernels::kTopkMax> nodes{};
  std::size_t terms = 0;
  std::size_t node_count = 0;
  const auto topk = static_cast<std::size_t>(s.topk);
  const auto first_node = call.memory.get<std::int32_t>(work_picks_);  // of each row of the pass
  for (std::int64_t row = begin; row < end; ++row) {
    first_node[static_cast<std::size_t>(row - begin)] = static_cast<std::int32_t>(node_count);
    const std::span routes(work.routes + row * s.topk, topk);
    const std::size_t found = split_into_nodes(routes, s.sharded(), nodes);
    for (const Node& node : std::span(nodes).first(found)) {
      if (node.holder != s.ep_rank()) continue;
      starts[node_count++] = static_cast<std::int32_t>(terms);
      for (std::size_t k = node.first; k < std::size_t{node.first} + node.count; ++k) {
        experts[terms] = routes[k].expert;
        rows[terms] = static_cast<std::int32_t>(row);
        weights[terms++] = work.weights[row * s.topk + static_cast<std::int64_t>(k)];
      }
    }
  }
  starts[node_count] = static_cast<std::int32_t>(terms);
  first_node[static_cast<std::size_t>(end - begin)] = static_cast<std::int32_t>(node_count);

  const ExpertOutput output = experts_.run(
      call.context,
      call.memory,
      {.weights = &call.flight.step.weights->shards[static_cast<std::size_t>(s.shard())],
       .x = work.x,
       .experts = experts.first(terms),
       .rows = rows.first(terms)},
      nullptr
  );
  for (std::size_t source = 0; source < work.sources.size(); ++source) {
    const std::int64_t from = std::max(work.sources[source].begin, begin);
    const std::int64_t to = std::min(work.sources[source].end, end);
    if (from >= to) continue;
    const std::int64_t first = first_node[static_cast<std::size_t>(from - begin)];
    const std::int64_t last = first_node[static_cast<std::size_t>(to - begin)];
    sum_nodes(call, output, static_cast<std::int32_t>(source), {first, last});
  }
}

// The nodes' sums (shards: the bare outputs) of one source: own ones go to their lines, others into
// the message that takes them home.
void ExpertExchange::sum_nodes(
    const Call& call,
    const ExpertOutput& output,
    std::int32_t source,
    NodeRange nodes
) {
  const Sizes& s = *sizes_;
  Flight::Lane& lane = call.flight.lanes[static_cast<std::size_t>(source)];
  const bool own = source == s.place.rank;
  const std::int64_t count = nodes.end - nodes.begin;
  const auto starts = call.memory.get<std::int32_t>(pass_starts_);
  float* home = call.memory.get<float>(call.flight.lines).data() + lane.next_line * s.hidden;
  float* sums = own ? home : call.memory.get<float>(node_sums_).data();
  const float* source_rows = output.lines;
  const std::int32_t* picks = output.line_of.data() + starts[static_cast<std::size_t>(nodes.begin)];
  if (!s.sharded()) {
    kernels::tree_combine(
        call.context,
        {.term_rows = output.lines,
         .row_of = output.line_of.data(),
         .ids = call.memory.get<std::int32_t>(pass_experts_).data(),
         .weights = call.memory.get<float>(pass_weights_).data(),
         .starts = starts.data() + nodes.begin,
         .rows = count,
         .topk = s.topk,
         .hidden = s.hidden,
         .sum = sums}
    );
    source_rows = sums;
    picks = nullptr;
  }
  std::byte* out = reinterpret_cast<std::byte*>(home);
  if (!own) {
    out = slice(
              call.memory.get<std::byte>(call.flight.results_out),
              static_cast<std::size_t>(source),
              s.results_bytes
          ) +
          static_cast<std::size_t>(lane.results) * s.result_row_bytes();
    PLEIAD_CHECK(
        static_cast<std::size_t>(lane.results + count) * s.result_row_bytes() <= s.results_bytes
    );
    lane.results += count;
  } else {
    lane.next_line += count;
  }
  if (own && !s.sharded()) return;
  kernels::pack_rows(
      call.context,
      {.x = source_rows,
       .x_rows = picks,
       .rows = count,
       .width = s.hidden,
       .dtype = own ? device::DType::F32 : s.result_dtype,
       .out = out}
  );
}

void ExpertExchange::send_results(const Call& call) {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  const auto results = call.memory.get<std::byte>(flight.results_out);
  for (std::int32_t i = 1; i < s.place.ranks; ++i) {
    const std::int32_t peer = (s.place.rank + i) % s.place.ranks;
    const Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
    if (lane.results == 0) continue;
    const std::size_t bytes = static_cast<std::size_t>(lane.results) * s.result_row_bytes();
    flight.step.group->group->send(
        peer, {slice(results, static_cast<std::size_t>(peer), s.results_bytes), bytes}
    );
    count(s.place.stats->combine_bytes, bytes);
  }
  flight.sends = flight.step.group->group->sends();
}

}  // namespace pleiad::ep
