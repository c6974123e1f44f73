#include "ep/moe_layer.h"

#include <fmt/core.h>

#include "base/check.h"
#include "ep/hash_routing.h"
#include "kernels/expert_gate.h"
#include "kernels/gemm.h"
#include "kernels/tree_combine.h"

namespace pleiad::ep {
namespace {

Result<void> in_layer(Result<void> result, std::int64_t layer) {
  if (result.ok()) return result;
  return with_context(std::move(result).error(), fmt::format("MoE layer {}", layer));
}

}  // namespace

MoeRunner::MoeRunner(
    const MoeShape& shape,
    const MoePlace& place,
    const MoeLimits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(shape), place_(place), rows_max_(limits.rows_max) {
  const std::int64_t rows = limits.rows_max;
  const auto reserve = [&](std::string_view name, std::int64_t count, std::size_t size) {
    return plan.reserve(name, static_cast<std::size_t>(count) * size, first, last);
  };
  const bool alone = place.rank.ranks == 1;
  const bool two = !alone && place.rank.settings.two_batch_overlap;
  const std::int64_t choices = rows * shape.gate.topk;
  logits_ = reserve("gate logits", rows * shape.gate.experts, sizeof(float));
  for (std::size_t batch = 0; batch < (two ? 2U : 1U); ++batch) {
    choices_[batch].ids = reserve("expert ids", choices, sizeof(std::int32_t));
    choices_[batch].weights = reserve("expert weights", choices, sizeof(float));
  }
  if (!alone) {
    const bool wide = limits.compute == kernels::Compute::Float32;
    exchange_ = std::make_unique<ExpertExchange>(
        shape,
        place.rank,
        ExpertExchange::Limits{
            .rows_max = rows,
            .activations = wide ? device::DType::F32 : device::DType::BF16,
        },
        plan,
        first,
        last
    );
    return;
  }
  assignment_rows_ = reserve("assignment rows", choices, sizeof(std::int32_t));
  const bool shared = shape.shared_intermediate > 0;
  shared_out_ = reserve("shared out", shared ? rows * shape.hidden : 0, sizeof(float));
  experts_ = std::make_unique<ExpertRunner>(
      shape,
      ExpertRunner::Limits{.assignments_max = choices, .shared_rows_max = rows},
      plan,
      first,
      last
  );
}

void MoeRunner::run(const kernels::Context& context, device::Scratch& memory, const MoeStep& step) {
  PLEIAD_CHECK(step.weights != nullptr && step.x != nullptr && step.residual != nullptr);
  PLEIAD_CHECK(experts_ != nullptr && step.rows <= rows_max_);
  route(context, memory, step, choices_[0]);
  const auto assignments = static_cast<std::size_t>(step.rows * shape_.gate.topk);
  const auto ids = memory.get<std::int32_t>(choices_[0].ids).first(assignments);
  const auto rows = memory.get<std::int32_t>(assignment_rows_).first(assignments);
  for (std::size_t i = 0; i < assignments; ++i) {
    rows[i] = static_cast<std::int32_t>(i / static_cast<std::size_t>(shape_.gate.topk));
  }
  float* shared_out = memory.get<float>(shared_out_).data();
  const SharedBatch shared{
      .weights = step.weights, .x = step.x, .rows = step.rows, .out = shared_out};
  const bool has_shared = shape_.shared_intermediate > 0;
  const ExpertOutput output = experts_->run(
      context,
      memory,
      {.weights = &step.weights->shards.front(), .x = step.x, .experts = ids, .rows = rows},
      has_shared ? &shared : nullptr
  );
  kernels::tree_combine(
      context,
      {.term_rows = output.lines,
       .row_of = output.line_of.data(),
       .ids = ids.data(),
       .weights = memory.get<float>(choices_[0].weights).data(),
       .rows = step.rows,
       .topk = shape_.gate.topk,
       .hidden = shape_.hidden,
       .shared = has_shared ? shared_out : nullptr,
       .residual = step.residual}
  );
}

void MoeRunner::route(
    const kernels::Context& context,
    device::Scratch& memory,
    const MoeStep& step,
    const Choice& choice
) const {
  std::int32_t* ids = memory.get<std::int32_t>(choice.ids).data();
  float* chosen = memory.get<float>(choice.weights).data();
  if (place_.rank.settings.routing == plan::Routing::Hash) {
    PLEIAD_CHECK(static_cast<std::int64_t>(step.tokens.size()) == step.rows);
    hash_experts(step.tokens, step.layer, shape_.gate, ids, chosen);
  } else {
    const MoeWeights& weights = *step.weights;
    float* logits = memory.get<float>(logits_).data();
    kernels::gemm(
        context,
        {.x = step.x,
         .x_stride = shape_.hidden,
         .rows = step.rows,
         .weight = &weights.gate,
         .bias = weights.logit_bias.empty() ? nullptr : weights.logit_bias.data(),
         .y = logits,
         .y_stride = shape_.gate.experts}
    );
    kernels::select_experts(
        context,
        shape_.gate,
        {.logits = logits,
         .bias = weights.choice_bias.empty() ? nullptr : weights.choice_bias.data(),
         .rows = step.rows,
         .ids = ids,
         .weights = chosen}
    );
  }
  if (step.expert_tokens.empty()) return;
  for (std::int64_t i = 0; i < step.rows * shape_.gate.topk; ++i) {
    ++step.expert_tokens[static_cast<std::size_t>(ids[i])];
  }
}

ExchangeStep MoeRunner::exchange_step(
    device::Scratch& memory,
    const GroupStep& group,
    const MoeStep& step,
    const Choice& choice
) const {
  return {
      .weights = step.weights,
      .placement = &place_.placements[static_cast<std::size_t>(step.layer)],
      .group = &group,
      .x = step.x,
      .rows = step.rows,
      .ids = memory.get<std::int32_t>(choice.ids).data(),
      .gate_weights = memory.get<float>(choice.weights).data(),
      .residual = step.residual,
  };
}

void MoeRunner::prepare(
    const kernels::Context& context,
    device::Scratch& memory,
    const GroupStep& group,
    int batch,
    const MoeStep& step
) {
  if (exchange_ == nullptr || place_.rank.settings.routing != plan::Routing::Hash) return;
  PLEIAD_CHECK(step.rows <= rows_max_);
  Choice& choice = choices_.at(static_cast<std::size_t>(batch));
  if (step.rows > 0) route(context, memory, step, choice);
  choice.made = true;
  exchange_->prepare(memory, batch, exchange_step(memory, group, step, choice));
}

Result<void> MoeRunner::begin(
    const kernels::Context& context,
    device::Scratch& memory,
    const GroupStep& group,
    int batch,
    const MoeStep& step
) {
  PLEIAD_CHECK(step.rows <= rows_max_);
  if (exchange_ == nullptr) {
    if (step.rows > 0) run(context, memory, step);
    return {};
  }
  Choice& choice = choices_.at(static_cast<std::size_t>(batch));
  choice.layer = step.layer;
  if (step.rows > 0 && !choice.made) route(context, memory, step, choice);
  choice.made = false;
  return in_layer(
      exchange_->begin(context, memory, batch, exchange_step(memory, group, step, choice)),
      step.layer
  );
}

Result<void> MoeRunner::serve(const kernels::Context& context, device::Scratch& memory, int batch) {
  if (exchange_ == nullptr) return {};
  return in_layer(
      exchange_->serve(context, memory, batch), choices_.at(static_cast<std::size_t>(batch)).layer
  );
}

Result<void>
MoeRunner::finish(const kernels::Context& context, device::Scratch& memory, int batch) {
  if (exchange_ == nullptr) return {};
  return in_layer(
      exchange_->finish(context, memory, batch), choices_.at(static_cast<std::size_t>(batch)).layer
  );
}

}  // namespace pleiad::ep
