#pragma once

#include <cstdint>
#include <span>

#include "kernels/context.h"

namespace pleiad::kernels {

// Largest number of routed experts that select_experts takes.
inline constexpr std::int64_t kExpertsMax = 1024;

// Weights come from sigmoids, from a softmax over all experts, or from one over the chosen
// (gpt-oss), who are then chosen by their logits.
enum class GateScore { Sigmoid, Softmax, SoftmaxOfChosen };
// How a group of experts is ranked when routing is limited to some groups.
enum class GroupScore { SumOfTopTwo, Max };

struct GateOptions {
  std::int64_t experts = 0;
  std::int64_t topk = 0;
  std::int64_t groups = 1;       // experts % groups == 0
  std::int64_t topk_groups = 1;  // groups that stay eligible
  GateScore score = GateScore::Sigmoid;
  GroupScore group_score = GroupScore::SumOfTopTwo;
  bool normalize = true;  // divide the chosen weights by their sum (+ 1e-20); not SoftmaxOfChosen
  float scale = 1.0F;     // routed_scaling_factor
};

struct GateTask {
  const float* logits = nullptr;  // [rows, experts], dense
  const float* bias = nullptr;    // [experts] added for the choice only; null: none
  std::int64_t rows = 0;
  std::int32_t* ids = nullptr;  // [rows, topk], ascending within a row
  float* weights = nullptr;     // [rows, topk], of the expert beside it
};

// Chooses each row's experts and their weights, in float; equal scores go to the lower expert id
// (DESIGN R4). Experts of groups not chosen cannot win, whatever the bias. The sum of weights runs
// in ascending id order.
void select_experts(const Context& context, const GateOptions& options, const GateTask& task);

}  // namespace pleiad::kernels
