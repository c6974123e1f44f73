#include "ep/expert_exchange.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/core.h>

#include "base/check.h"
#include "ep/detail/exchange_stats.h"
#include "ep/detail/expert_work.h"
#include "ep/detail/flight.h"
#include "kernels/row_codec.h"
#include "kernels/row_ops.h"
#include "kernels/tree_combine.h"

namespace pleiad::ep {
namespace {

// Assignments that one pass takes even when the limits say less: a row's choices stay together.
constexpr std::int64_t kPassRowsMin = 16;

// Rows of the largest message between two ranks.
std::int64_t lane_rows(const RankPlace& place, std::int64_t rows_max, std::int64_t topk) {
  // Two batches in flight never wait for buffers, so theirs hold everything.
  if (place.settings.two_batch_overlap) return rows_max;
  if (place.settings.level != plan::EpLevel::AllToAll) return rows_max;
  const std::int64_t ep_size = place.ranks / place.moe_tp;
  const std::int64_t received =
      plan::level2_receive_rows(place.settings, rows_max * place.ranks, topk, ep_size);
  return std::clamp<std::int64_t>(divide_up(received, place.ranks), 1, rows_max);
}

// Assignments that a rank computes at once: its fair share of full ranks, or what the cut-off
// leaves.
std::int64_t pass_assignments(const RankPlace& place, std::int64_t rows_max, std::int64_t topk) {
  std::int64_t rows = rows_max * topk;
  if (place.settings.enable_init_routing_cutoff) {
    rows = plan::level1_rows_at_once(place.settings, rows_max * place.ranks, topk);
  }
  return std::max(rows, kPassRowsMin * topk);
}

}  // namespace

ExpertExchange::ExpertExchange(
    const MoeShape& shape,
    const RankPlace& place,
    const Limits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : sizes_(std::make_unique<Sizes>()),
      experts_(
          shape,
          {.assignments_max = pass_assignments(place, limits.rows_max, shape.gate.topk),
           .shared_rows_max = limits.rows_max,
           .moe_tp = place.moe_tp},
          plan,
          first,
          last
      ) {
  PLEIAD_CHECK(place.stats != nullptr && place.ranks % place.moe_tp == 0);
  PLEIAD_CHECK(shape.gate.experts <= UINT16_MAX && shape.gate.topk <= kernels::kTopkMax);
  Sizes& s = *sizes_;
  const bool two = place.settings.two_batch_overlap;
  s.place = place;
  s.hidden = shape.hidden;
  s.topk = shape.gate.topk;
  s.has_shared = shape.shared_intermediate > 0;
  s.rows_max = limits.rows_max;
  s.lane_rows = lane_rows(place, s.rows_max, s.topk);
  s.work_rows = s.rows_max + (place.ranks - 1) * s.lane_rows;
  s.pass_max = pass_assignments(place, limits.rows_max, s.topk);
  s.format = {.hidden = s.hidden, .topk = s.topk, .dtype = limits.activations};
  s.result_dtype = s.sharded() ? device::DType::F32 : limits.activations;
  s.message_bytes = (dispatch_bytes(s.format, s.lane_rows) + 63) / 64 * 64;
  const std::int64_t nodes = s.sharded() ? s.topk : place.nodes_per_row_max;
  s.results_bytes = static_cast<std::size_t>(s.lane_rows * nodes) * s.result_row_bytes();
  for (int i = 0; i < (two ? 2 : 1); ++i) {
    flights_.push_back(std::make_unique<Flight>(s, plan, first, last));
  }

  const auto reserve = [&](std::string_view name, std::int64_t count, std::size_t size) {
    return plan.reserve(name, static_cast<std::size_t>(count) * size, first, last);
  };
  work_x_ = reserve("work rows", s.work_rows * s.hidden, sizeof(float));
  work_routes_ = reserve("work routes", s.work_rows * s.topk, sizeof(Route));
  work_weights_ = reserve("work weights", s.work_rows * s.topk, sizeof(float));
  work_sources_ = reserve("work sources", place.ranks, sizeof(Work::Range));
  work_picks_ = reserve("work picks", s.work_rows + 1, sizeof(std::int32_t));
  pass_experts_ = reserve("pass experts", s.pass_max, sizeof(std::int32_t));
  pass_rows_ = reserve("pass rows", s.pass_max, sizeof(std::int32_t));
  pass_weights_ = reserve("pass weights", s.pass_max, sizeof(float));
  pass_starts_ = reserve("pass nodes", s.pass_max + 1, sizeof(std::int32_t));
  node_sums_ = reserve("node sums", s.pass_max * s.hidden, sizeof(float));
}

ExpertExchange::~ExpertExchange() = default;

// --- Sending ------------------------------------------------------------------------------------

void ExpertExchange::prepare(device::Scratch& memory, int batch, const ExchangeStep& step) {
  Flight& flight = *flights_.at(static_cast<std::size_t>(batch));
  PLEIAD_CHECK(step.rows <= sizes_->rows_max);
  flight.step = step;
  flight.batch = batch;
  flight.prepared = true;
  std::ranges::fill(flight.lanes, Flight::Lane{});
  if (step.rows > 0) plan_rows(memory, flight);
}

Result<void> ExpertExchange::begin(
    const kernels::Context& context,
    device::Scratch& memory,
    int batch,
    const ExchangeStep& step
) {
  Flight& flight = *flights_.at(static_cast<std::size_t>(batch));
  if (!flight.prepared) prepare(memory, batch, step);
  flight.prepared = false;
  PLEIAD_TRY(start_round({context, memory, flight}, 0));
  if (step.rows == 0 || !sizes_->has_shared) return {};
  experts_.run_shared(
      context,
      memory,
      {.weights = step.weights,
       .x = step.x,
       .rows = step.rows,
       .out = memory.get<float>(flight.shared).data()}
  );
  return {};
}

// Fills routes, nodes and the lists of rows per lane, and gives every result its line: those of one
// rank stand together, in the order in which it will send them.
void ExpertExchange::plan_rows(device::Scratch& memory, Flight& flight) const {
  const Sizes& s = *sizes_;
  const auto topk = static_cast<std::size_t>(s.topk);
  const auto routes = memory.get<Route>(flight.routes);
  const auto nodes = memory.get<Node>(flight.nodes);
  const auto starts = memory.get<std::int32_t>(flight.node_starts);
  const auto lane_rows = memory.get<std::int32_t>(flight.lane_rows);
  const bool all = flight.step.group->level == plan::EpLevel::AllGather;
  std::size_t used = 0;
  for (std::int64_t row = 0; row < flight.step.rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    const auto mine = routes.subspan(r * topk, topk);
    const auto spread = static_cast<std::uint32_t>(row + s.place.rank);
    const std::span ids(flight.step.ids + row * s.topk, topk);
    pick_holders(ids, *flight.step.placement, s.ep_rank(), spread, mine);
    starts[r] = static_cast<std::int32_t>(used);
    used += split_into_nodes(mine, s.sharded(), nodes.subspan(used));
    for (std::int32_t peer = 0; peer < s.place.ranks; ++peer) {
      Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
      if (!all && !wants(mine, s.holder_of(peer))) continue;
      *slice(lane_rows, static_cast<std::size_t>(peer * s.rows_max + lane.rows++), 1) =
          static_cast<std::int32_t>(row);
    }
  }
  starts[static_cast<std::size_t>(flight.step.rows)] = static_cast<std::int32_t>(used);

  std::int64_t line = 0;
  for (std::int32_t peer = 0; peer < s.place.ranks; ++peer) {
    flight.lanes[static_cast<std::size_t>(peer)].next_line = line;
    line += std::ranges::count_if(nodes.first(used), [&](const Node& node) {
      return node.holder == s.holder_of(peer);
    });
  }
}

Result<void> ExpertExchange::start_round(const Call& call, std::int64_t round) {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  comm::Group& group = *flight.step.group->group;
  PLEIAD_TRY(group.wait_sends(kDispatch, flight.sends));
  const auto receive = call.memory.get<std::byte>(flight.receive);
  for (std::int32_t peer = 0; peer < s.place.ranks; ++peer) {
    if (peer == s.place.rank) continue;
    Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
    const std::int64_t rows = flight.step.group->rows[static_cast<std::size_t>(peer)];
    if (round == 0) lane.rounds_in = rows_of_batch(*flight.step.group, rows, flight.batch) > 0;
    if (lane.rounds_in <= round) continue;
    group.post_receive(
        peer, {slice(receive, static_cast<std::size_t>(peer), s.message_bytes), s.message_bytes}
    );
  }
  // From the next rank on, so that not all ranks begin with the same peer.
  for (std::int32_t i = 1; i < s.place.ranks; ++i) {
    send_rows(call, (s.place.rank + i) % s.place.ranks, round);
  }
  flight.sends = group.sends();
  return {};
}

void ExpertExchange::send_rows(const Call& call, std::int32_t peer, std::int64_t round) {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
  const std::int64_t begin = round * s.lane_rows;
  lane.expected = 0;
  // A rank with rows says so to everybody in the first round, be it with an empty message.
  if (flight.step.rows == 0 || (round > 0 && lane.rows <= begin)) return;
  const std::int64_t rows = std::min(s.lane_rows, lane.rows - begin);
  const std::int32_t* list = slice(
      call.memory.get<std::int32_t>(flight.lane_rows),
      static_cast<std::size_t>(peer * s.rows_max + begin),
      1
  );
  const auto starts = call.memory.get<std::int32_t>(flight.node_starts);
  const auto nodes = call.memory.get<Node>(flight.nodes);
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto row = static_cast<std::size_t>(list[i]);
    for (std::int32_t n = starts[row]; n < starts[row + 1]; ++n) {
      lane.expected += nodes[static_cast<std::size_t>(n)].holder == s.holder_of(peer) ? 1 : 0;
    }
  }

  // Under AllGather all lanes carry the same message: the next rank's buffer holds it.
  const bool all = flight.step.group->level == plan::EpLevel::AllGather;
  const std::int32_t first = (s.place.rank + 1) % s.place.ranks;
  const std::size_t bytes = dispatch_bytes(s.format, rows);
  const std::span message(
      slice(
          call.memory.get<std::byte>(flight.send),
          static_cast<std::size_t>(all ? first : peer),
          s.message_bytes
      ),
      bytes
  );
  if (!all || peer == first) {
    const std::int64_t rounds = std::max<std::int64_t>(1, divide_up(lane.rows, s.lane_rows));
    pack_message(call, {list, static_cast<std::size_t>(rows)}, rounds, message);
  }
  flight.step.group->group->send(peer, message);
  count(s.place.stats->dispatch_bytes, bytes);
  count(s.place.stats->rows_sent, static_cast<std::size_t>(rows));
}

void ExpertExchange::pack_message(
    const Call& call,
    std::span<const std::int32_t> rows,
    std::int64_t rounds,
    std::span<std::byte> message
) const {
  const Sizes& s = *sizes_;
  const Flight& flight = call.flight;
  const auto topk = static_cast<std::size_t>(s.topk);
  const DispatchHead head{
      .rows = static_cast<std::uint32_t>(rows.size()),
      .rounds = static_cast<std::uint32_t>(rounds),
  };
  const DispatchParts parts = begin_dispatch(s.format, head, message);
  const auto routes = call.memory.get<Route>(flight.routes);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto from = static_cast<std::size_t>(rows[i]) * topk;
    std::ranges::copy(routes.subspan(from, topk), parts.routes.subspan(i * topk).begin());
    std::copy_n(flight.step.gate_weights + from, topk, parts.weights.subspan(i * topk).begin());
  }
  kernels::pack_rows(
      call.context,
      {.x = flight.step.x,
       .x_rows = rows.data(),
       .rows = static_cast<std::int64_t>(rows.size()),
       .width = s.hidden,
       .dtype = s.format.dtype,
       .out = parts.x.data()}
  );
}

// --- Finishing ----------------------------------------------------------------------------------

Result<void>
ExpertExchange::finish(const kernels::Context& context, device::Scratch& memory, int batch) {
  Flight& flight = *flights_.at(static_cast<std::size_t>(batch));
  const Call call{context, memory, flight};
  PLEIAD_TRY(receive_results(call));
  const auto more = [&](std::int64_t round) {
    return std::ranges::any_of(flight.lanes, [&](const Flight::Lane& lane) {
      const bool own = &lane == &flight.lanes[static_cast<std::size_t>(sizes_->place.rank)];
      return !own && (lane.rows > round * sizes_->lane_rows || lane.rounds_in > round);
    });
  };
  for (std::int64_t round = 1; more(round); ++round) {
    count(sizes_->place.stats->extra_rounds, 1);
    PLEIAD_TRY(start_round(call, round));
    PLEIAD_TRY(serve_round(call, round));
    PLEIAD_TRY(receive_results(call));
  }
  if (flight.step.rows > 0) combine(call);
  return {};
}

Result<void> ExpertExchange::receive_results(const Call& call) {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  comm::Group& group = *flight.step.group->group;
  const WaitTimer timer(group, s.place.stats->combine_wait_ns);
  const auto results = call.memory.get<std::byte>(flight.results_in);
  for (std::int32_t i = 1; i < s.place.ranks; ++i) {
    const std::int32_t peer = (s.place.rank + s.place.ranks - i) % s.place.ranks;
    Flight::Lane& lane = flight.lanes[static_cast<std::size_t>(peer)];
    if (lane.expected == 0) continue;
    PLEIAD_TRY(size, group.wait_receive(peer, kCombine));
    const auto bytes = static_cast<std::size_t>(lane.expected) * s.result_row_bytes();
    if (size != bytes) {
      return corrupt("rank {} sent {} bytes of results, {} were due", peer, size, bytes);
    }
    kernels::unpack_rows(
        call.context,
        {.bytes = slice(results, static_cast<std::size_t>(peer), s.results_bytes),
         .dtype = s.result_dtype,
         .rows = lane.expected,
         .width = s.hidden,
         .y = call.memory.get<float>(flight.lines).data() + lane.next_line * s.hidden}
    );
    lane.next_line += lane.expected;
    lane.expected = 0;
  }
  return {};
}

// All lines are there: shards are added up, then every row's nodes along the tree.
void ExpertExchange::combine(const Call& call) const {
  const Sizes& s = *sizes_;
  Flight& flight = call.flight;
  float* lines = call.memory.get<float>(flight.lines).data();
  const auto rows = static_cast<std::size_t>(flight.step.rows);
  const auto starts = call.memory.get<std::int32_t>(flight.node_starts);
  const auto nodes =
      call.memory.get<Node>(flight.nodes).first(static_cast<std::size_t>(starts[rows]));
  const auto routes = call.memory.get<Route>(flight.routes);
  const auto ids = call.memory.get<std::int32_t>(flight.node_ids);
  const auto weights = call.memory.get<float>(flight.node_weights);
  const auto node_lines = call.memory.get<std::int32_t>(flight.node_lines);

  // Every line has come, so each lane's cursor stands at the end of its lines; walk them backwards.
  for (std::size_t row = rows; row-- > 0;) {
    for (std::int32_t n = starts[row + 1]; n-- > starts[row];) {
      const auto at = static_cast<std::size_t>(n);
      const std::size_t route = row * static_cast<std::size_t>(s.topk) + nodes[at].first;
      const std::size_t holder = nodes[at].holder;
      Flight::Lane& lane = flight.lanes[holder * static_cast<std::size_t>(s.place.moe_tp)];
      node_lines[at] = static_cast<std::int32_t>(--lane.next_line);
      ids[at] = routes[route].expert;
      weights[at] = flight.step.gate_weights[route];
    }
  }
  if (s.sharded()) add_shards(call, nodes.size());
  kernels::tree_combine(
      call.context,
      {.term_rows = lines,
       .row_of = node_lines.data(),
       .ids = ids.data(),
       .weights = s.sharded() ? weights.data() : nullptr,
       .starts = starts.data(),
       .rows = flight.step.rows,
       .topk = s.topk,
       .hidden = s.hidden,
       .shared = s.has_shared ? call.memory.get<float>(flight.shared).data() : nullptr,
       .residual = flight.step.residual}
  );
}

// Each holder's lines stand moe_tp times, once per shard, one block after the other: the first
// block becomes their sum along a binary tree over shards.
void ExpertExchange::add_shards(const Call& call, std::size_t nodes) const {
  const Sizes& s = *sizes_;
  const auto& lanes = call.flight.lanes;
  float* lines = call.memory.get<float>(call.flight.lines).data();
  const std::int64_t all_lines = static_cast<std::int64_t>(nodes) * s.place.moe_tp;
  for (std::int32_t first = 0; first < s.place.ranks; first += s.place.moe_tp) {
    const auto rank = static_cast<std::size_t>(first);
    const std::int64_t begin = lanes[rank].next_line;
    const std::int32_t next = first + s.place.moe_tp;
    const std::int64_t end =
        next < s.place.ranks ? lanes[static_cast<std::size_t>(next)].next_line : all_lines;
    const std::int64_t block = (end - begin) / s.place.moe_tp;
    float* base = lines + begin * s.hidden;
    for (std::int32_t step = 1; step < s.place.moe_tp; step *= 2) {
      for (std::int32_t t = 0; t + step < s.place.moe_tp; t += 2 * step) {
        kernels::add_rows(
            call.context,
            base + (t + step) * block * s.hidden,
            block * s.hidden,
            base + t * block * s.hidden
        );
      }
    }
  }
}

}  // namespace pleiad::ep
