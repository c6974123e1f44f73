#include "plan/cost_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/core.h>

#include "plan/ep_settings_text.h"

namespace pleiad::plan {
namespace {

Result<void> check_machine(const MachineConstants& machine) {
  struct Constant {
    std::string_view name;
    double value;
    bool may_be_zero;
  };
  const Constant constants[] = {
      {"memory_bytes_per_second", machine.memory_bytes_per_second, false},
      {"flops_per_second", machine.flops_per_second, false},
      {"cores_per_rank", static_cast<double>(machine.cores_per_rank), false},
      {"step_seconds", machine.step_seconds, true},
      {"row_seconds", machine.row_seconds, true},
      {"message_seconds", machine.message_seconds, true},
      {"link_latency_seconds", machine.link_latency_seconds, true},
      {"link_bytes_per_second", machine.link_bytes_per_second, false},
  };
  for (const Constant& constant : constants) {
    const bool valid = std::isfinite(constant.value) &&
                       (constant.value > 0.0 || (constant.may_be_zero && constant.value == 0.0));
    if (!valid) {
      return invalid_input(
          "{} is {}; it must be a finite number {}",
          constant.name,
          constant.value,
          constant.may_be_zero ? "of at least 0" : "above 0"
      );
    }
  }
  return {};
}

Result<void> check_facts(const ModelFacts& facts) {
  const bool countable = facts.hidden >= 1 && facts.moe_layers >= 0 && facts.expert_bytes >= 0 &&
                         facts.dense_step_bytes >= 0 && facts.activation_bytes >= 1 &&
                         facts.experts <= INT32_MAX;
  if (!countable || !(facts.bytes_per_parameter > 0.0)) {
    return invalid_input("the facts of model {} are no counts to reckon with", facts.name);
  }
  if (facts.topk < 1 || facts.topk > facts.experts) {
    return invalid_input("topk {} of {} experts is no choice", facts.topk, facts.experts);
  }
  const bool grouped = facts.expert_groups >= 1 && facts.groups_per_token >= 1 &&
                       facts.groups_per_token <= facts.expert_groups &&
                       facts.experts % facts.expert_groups == 0;
  if (!grouped || facts.topk > facts.experts / facts.expert_groups * facts.groups_per_token) {
    return invalid_input(
        "{} of {} groups of {} experts are no choice of {}",
        facts.groups_per_token,
        facts.expert_groups,
        facts.experts,
        facts.topk
    );
  }
  return {};
}

double real(std::int64_t value) {
  return static_cast<double>(value);
}

}  // namespace

Result<CostModel> CostModel::make(
    const ModelFacts& facts,
    const ParallelLayout& layout,
    const EpSettings& settings,
    const MachineConstants& machine
) {
  PLEIAD_TRY(check_facts(facts));
  PLEIAD_TRY(check_model(layout, facts));
  PLEIAD_TRY(validate(settings));
  PLEIAD_TRY(check_machine(machine));
  CostModel out;
  out.facts_ = facts;
  out.layout_ = layout;
  out.settings_ = settings;
  out.machine_ = machine;
  out.routing_ = expect_uniform_routing(
      ExpertPlacement::contiguous(static_cast<std::int32_t>(facts.experts), layout.ep_size),
      routing_of(facts)
  );
  return out;
}

double CostModel::exchange_seconds(const Exchange& exchange) const {
  return machine_.link_latency_seconds * exchange.waits +
         machine_.message_seconds * exchange.messages +
         std::max(exchange.bytes_out, exchange.bytes_in) / machine_.link_bytes_per_second;
}

double CostModel::rounds(EpLevel level, std::int64_t tokens) const {
  double received = real(tokens);
  double at_once = 1.0;
  if (level == EpLevel::AllToAll) {
    received *= *std::max_element(routing_.reach.begin(), routing_.reach.end());
    at_once = real(level2_receive_rows(settings_, tokens, facts_.topk, layout_.ep_size));
  } else {
    at_once = real(level1_rows_at_once(settings_, tokens, facts_.topk));
  }
  return std::max(std::ceil(received / at_once), 1.0);
}

CostModel::Exchange
CostModel::dispatch(EpLevel level, std::int32_t rank, double own_rows, std::int64_t tokens) const {
  const double peers = layout_.ranks() - 1;
  const double others_rows = real(tokens) - own_rows;
  const double record = real(dispatch_record_bytes(facts_));
  if (level == EpLevel::AllGather) {
    return {
        .waits = rounds(level, tokens),
        .messages = peers * rounds(level, tokens),
        .bytes_out = own_rows * peers * record,
        .bytes_in = others_rows * record};
  }
  const double reach = routing_.reach[static_cast<std::size_t>(layout_.place(rank).ep_rank)];
  const double reached_elsewhere = routing_.ranks_reached() * layout_.moe_tp_size - reach;
  return {
      .waits = rounds(level, tokens),
      .messages = peers * (1.0 + rounds(level, tokens)),
      .bytes_out = own_rows * reached_elsewhere * record,
      .bytes_in = others_rows * reach * record};
}

CostModel::Exchange
CostModel::returned(EpLevel level, std::int32_t rank, double own_rows, std::int64_t tokens) const {
  const double others_rows = real(tokens) - own_rows;
  const double row = real(return_row_bytes(facts_));
  const double here = routing_.return_rows[static_cast<std::size_t>(layout_.place(rank).ep_rank)];
  const double elsewhere = routing_.rows_returned() * layout_.moe_tp_size - here;
  return {
      .waits = rounds(level, tokens),
      .messages = (layout_.ranks() - 1) * rounds(level, tokens),
      .bytes_out = others_rows * here * row,
      .bytes_in = own_rows * elsewhere * row};
}

double CostModel::dense_seconds(double rows) const {
  const double flops = machine_.flops_per_second * machine_.cores_per_rank;
  const double bytes =
      real(facts_.dense_step_bytes - bytes_left_to_others(facts_, layout_.tp_size));
  const double arithmetic = rows * 2.0 * bytes / facts_.bytes_per_parameter / flops;
  return std::max(bytes / machine_.memory_bytes_per_second, arithmetic);
}

double CostModel::tensor_seconds(double rows) const {
  if (layout_.tp_size == 1) return 0.0;
  const double peers = layout_.tp_size - 1;
  const double row = real(facts_.hidden) * (2.0 * real(facts_.activation_bytes) + sizeof(float));
  const double bytes = rows * row * peers / layout_.tp_size;
  return real(facts_.layers) * exchange_seconds({
                                   .waits = 3.0,
                                   .messages = 3.0 * peers,
                                   .bytes_out = bytes,
                                   .bytes_in = bytes,
                               });
}

double CostModel::expert_seconds(std::int64_t tokens) const {
  const double flops = machine_.flops_per_second * machine_.cores_per_rank;
  const double bytes = real(facts_.expert_bytes) / layout_.moe_tp_size;
  const double chosen = real(facts_.topk) / real(facts_.experts);
  // The fullest rank is the slowest: routing is uniform.
  const double held = std::ceil(real(facts_.experts) / layout_.ep_size);
  const double touched = held * (1.0 - std::pow(1.0 - chosen, real(tokens)));
  const double products = real(tokens) * chosen * held;
  const double arithmetic = products * 2.0 * bytes / facts_.bytes_per_parameter / flops;
  return std::max(touched * bytes / machine_.memory_bytes_per_second, arithmetic);
}

StepCost CostModel::step(EpLevel level, std::span<const std::int64_t> rows) const {
  PLEIAD_CHECK(level != EpLevel::Auto, "a step runs under one level");
  PLEIAD_CHECK(rows.size() == static_cast<std::size_t>(layout_.dp_size), "rows of each dp rank");
  const std::int64_t tokens = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  const double layers = real(facts_.moe_layers);
  StepCost out;
  for (std::int32_t rank = 0; rank < layout_.ranks(); ++rank) {
    const auto dp_rank = static_cast<std::size_t>(layout_.place(rank).dp_rank);
    PLEIAD_CHECK(rows[dp_rank] >= 0, "rows are counts");
    const double shared_rows = real(rows[dp_rank]);
    const double own_rows = shared_rows / layout_.tp_size;
    out.dense_seconds = std::max(out.dense_seconds, dense_seconds(shared_rows));
    out.tensor_seconds = std::max(out.tensor_seconds, tensor_seconds(shared_rows));
    out.fixed_seconds =
        std::max(out.fixed_seconds, machine_.step_seconds + own_rows * machine_.row_seconds);
    if (layout_.ranks() == 1) continue;
    const Exchange there = dispatch(level, rank, own_rows, tokens);
    const Exchange back = returned(level, rank, own_rows, tokens);
    out.dispatch_seconds = std::max(out.dispatch_seconds, layers * exchange_seconds(there));
    out.return_seconds = std::max(out.return_seconds, layers * exchange_seconds(back));
    const double sent = layers * (there.bytes_out + back.bytes_out);
    out.wire_bytes += sent;
    out.rank_wire_bytes_max = std::max(out.rank_wire_bytes_max, sent);
  }
  out.expert_seconds = layers * expert_seconds(tokens);
  if (layout_.ranks() > 1) {
    const auto peers = static_cast<double>(layout_.ranks() - 1);
    out.agree_seconds = exchange_seconds({.waits = 1, .messages = peers});
  }
  return out;
}

StepCost CostModel::even_step(EpLevel level, std::int64_t rows) const {
  return step(level, std::vector<std::int64_t>(static_cast<std::size_t>(layout_.dp_size), rows));
}

LevelChoice CostModel::choose_level(std::span<const std::int64_t> rows) const {
  if (settings_.level != EpLevel::Auto) {
    return {settings_.level, fmt::format("ep_level {} is set", to_string(settings_.level))};
  }
  if (layout_.ranks() == 1) return {EpLevel::AllGather, "one rank exchanges nothing"};
  const double gather = step(EpLevel::AllGather, rows).exchange_seconds();
  const double all_to_all = step(EpLevel::AllToAll, rows).exchange_seconds();
  const EpLevel level = all_to_all < gather ? EpLevel::AllToAll : EpLevel::AllGather;
  return {
      level,
      fmt::format(
          "auto takes ep_level {} for {} tokens: exchange predicted {:.3f} ms under 1, {:.3f} ms "
          "under 2",
          to_string(level),
          std::accumulate(rows.begin(), rows.end(), std::int64_t{0}),
          gather * 1e3,
          all_to_all * 1e3
      )};
}

std::optional<std::int64_t> CostModel::all_to_all_rows_min(std::int64_t rows_max) const {
  const auto pays = [this](std::int64_t rows) {
    return even_step(EpLevel::AllToAll, rows).exchange_seconds() <
           even_step(EpLevel::AllGather, rows).exchange_seconds();
  };
  if (settings_.level != EpLevel::Auto || layout_.ranks() == 1) return std::nullopt;
  std::int64_t high = 1;
  while (high <= rows_max && !pays(high)) {
    high *= 2;
  }
  if (high > rows_max) return std::nullopt;
  std::int64_t low = high / 2;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (pays(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace pleiad::plan
