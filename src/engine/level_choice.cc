#include "engine/level_choice.h"

#include "plan/cost_model.h"

namespace pleiad::engine {
namespace {

// Exchange between threads of one process, and between processes (docs/measurements). Only their
// ratio matters here: how many bytes a message is worth. Both levels wait equally often.
constexpr plan::MachineConstants kThreads = {
    .memory_bytes_per_second = 10e9,
    .flops_per_second = 50e9,
    .message_seconds = 5e-6,
    .link_bytes_per_second = 5e9,
};
constexpr plan::MachineConstants kNodes = {
    .memory_bytes_per_second = 10e9,
    .flops_per_second = 50e9,
    .message_seconds = 30e-6,
    .link_bytes_per_second = 1e9,
};

}  // namespace

Result<std::int64_t> all_to_all_rows_min(
    const model::ModelShape& shape,
    const plan::ParallelLayout& layout,
    const plan::EpSettings& settings,
    model::Compute compute,
    std::int64_t rows_max
) {
  const std::int64_t element = compute == model::Compute::Float32 ? 4 : 2;
  const std::int64_t expert_elements = 3 * shape.moe.hidden * shape.moe.intermediate;
  const plan::ModelFacts facts{
      .layers = shape.cache.layers,
      .moe_layers = shape.moe_layers,
      .hidden = shape.moe.hidden,
      .experts = shape.moe.gate.experts,
      .topk = shape.moe.gate.topk,
      .expert_groups = shape.moe.gate.groups,
      .groups_per_token = shape.moe.gate.topk_groups,
      .vocabulary = shape.vocabulary,
      .expert_partial_sums = ep::expert_partial_sums(shape.moe),
      .expert_bytes = expert_elements * element,
      .dense_bytes = 1,
      .dense_step_bytes = 1,
      .bytes_per_parameter = static_cast<double>(element),
      .kv_bytes_per_token = 1,
      .activation_bytes = element,
  };
  const plan::MachineConstants& machine = layout.nnodes > 1 ? kNodes : kThreads;
  PLEIAD_TRY(model, plan::CostModel::make(facts, layout, settings, machine));
  const auto rows = model.all_to_all_rows_min(rows_max);
  return rows ? *rows * layout.dp_size : INT64_MAX;
}

}  // namespace pleiad::engine
