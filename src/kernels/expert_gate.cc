#include "kernels/expert_gate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/detail/isa_kernels.h"
#include "kernels/detail/row_blocks.h"
#include "kernels/tree_combine.h"

namespace pleiad::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// The best entries seen so far, best first; of equal scores the one seen first stays ahead, so
// entries offered in ascending order of id obey DESIGN R4.
class Best {
 public:
  explicit Best(std::int64_t wanted) : wanted_(wanted) {}

  void offer(std::int64_t id, float score) {
    if (count_ == wanted_ && score <= scores_[index(count_ - 1)]) return;
    std::int64_t at = count_ < wanted_ ? count_++ : count_ - 1;
    for (; at > 0 && scores_[index(at - 1)] < score; --at) {
      scores_[index(at)] = scores_[index(at - 1)];
      ids_[index(at)] = ids_[index(at - 1)];
    }
    scores_[index(at)] = score;
    ids_[index(at)] = id;
  }

  // The ids, ascending.
  std::span<const std::int64_t> sorted_ids() {
    std::sort(ids_.begin(), ids_.begin() + count_);
    return std::span(ids_).first(index(count_));
  }

 private:
  static std::size_t index(std::int64_t at) { return static_cast<std::size_t>(at); }

  std::int64_t wanted_;
  std::int64_t count_ = 0;
  std::array<float, kTopkMax> scores_{};
  std::array<std::int64_t, kTopkMax> ids_{};
};

// A score that compares: NaN is the worst of all.
float comparable(float score) {
  return std::isnan(score) ? kNever : score;
}

void softmax(const detail::IsaKernels& isa, std::int64_t count, const float* x, float* y) {
  float top = kNever;
  for (std::int64_t i = 0; i < count; ++i) {
    top = std::max(top, comparable(x[i]));
  }
  for (std::int64_t i = 0; i < count; ++i) {
    y[i] = comparable(x[i]) - top;
  }
  isa.exp(y, count, y);
  float sum = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += y[i];
  }
  for (std::int64_t i = 0; i < count; ++i) {
    y[i] /= sum;
  }
}

float group_score(GroupScore kind, std::span<const float> choice) {
  float first = kNever;
  float second = kNever;
  for (const float score : choice) {
    if (score > first) {
      second = first;
      first = score;
    } else {
      second = std::max(second, score);
    }
  }
  switch (kind) {
    case GroupScore::Max:
      return first;
    // A group of one has no second; with fewer than two experts that compare it ranks last.
    case GroupScore::SumOfTopTwo:
      return choice.size() < 2 ? first : comparable(first + second);
  }
  return first;
}

// The experts of one row, chosen by `choice` [experts].
std::span<const std::int64_t>
choose(const GateOptions& options, std::span<const float> choice, Best& best) {
  const std::int64_t group_experts = options.experts / options.groups;
  Best groups(options.topk_groups);
  for (std::int64_t group = 0; group < options.groups; ++group) {
    const auto members = choice.subspan(
        static_cast<std::size_t>(group * group_experts), static_cast<std::size_t>(group_experts)
    );
    groups.offer(group, options.groups == 1 ? 0.0F : group_score(options.group_score, members));
  }
  for (const std::int64_t group : groups.sorted_ids()) {
    for (std::int64_t id = group * group_experts; id < (group + 1) * group_experts; ++id) {
      best.offer(id, choice[static_cast<std::size_t>(id)]);
    }
  }
  return best.sorted_ids();
}

void select_row(
    const detail::IsaKernels& isa,
    const GateOptions& options,
    const GateTask& task,
    std::int64_t row
) {
  // Filled below as far as they are read; clearing them would cost more than choosing.
  std::array<float, kExpertsMax> scores;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<float, kExpertsMax> choice;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const std::int64_t experts = options.experts;
  const float* logits = task.logits + row * experts;
  const bool of_chosen = options.score == GateScore::SoftmaxOfChosen;
  switch (options.score) {
    case GateScore::Sigmoid:
      isa.sigmoid(logits, experts, scores.data());
      break;
    case GateScore::Softmax:
      softmax(isa, experts, logits, scores.data());
      break;
    case GateScore::SoftmaxOfChosen:
      std::copy_n(logits, experts, scores.data());
      break;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(experts); ++i) {
    if (std::isnan(scores[i])) scores[i] = of_chosen ? kNever : 0.0F;
    choice[i] = comparable(scores[i] + (task.bias == nullptr ? 0.0F : task.bias[i]));
    if (std::isnan(logits[i])) choice[i] = kNever;
  }
  Best best(options.topk);
  const auto chosen =
      choose(options, std::span(choice).first(static_cast<std::size_t>(experts)), best);

  std::int32_t* ids = task.ids + row * options.topk;
  float* weights = task.weights + row * options.topk;
  for (std::size_t k = 0; k < chosen.size(); ++k) {
    ids[k] = static_cast<std::int32_t>(chosen[k]);
    weights[k] = scores[static_cast<std::size_t>(chosen[k])];
  }
  if (of_chosen) softmax(isa, options.topk, weights, weights);
  float sum = 0.0F;
  for (std::size_t k = 0; k < chosen.size(); ++k) {
    sum += weights[k];
  }
  const float divisor = options.normalize && !of_chosen ? sum + 1e-20F : 1.0F;
  for (std::size_t k = 0; k < chosen.size(); ++k) {
    weights[k] = weights[k] / divisor * options.scale;
  }
}

}  // namespace

void select_experts(const Context& context, const GateOptions& options, const GateTask& task) {
  PLEIAD_CHECK(options.experts > 0 && options.experts <= kExpertsMax);
  PLEIAD_CHECK(options.groups > 0 && options.groups <= kTopkMax);
  PLEIAD_CHECK(options.experts % options.groups == 0);
  PLEIAD_CHECK(options.topk_groups > 0 && options.topk_groups <= options.groups);
  const std::int64_t eligible = options.experts / options.groups * options.topk_groups;
  PLEIAD_CHECK(options.topk > 0 && options.topk <= std::min(eligible, kTopkMax));
  const auto& isa = detail::kernels_of(context.isa);
  detail::for_rows(context, task.rows, options.experts * 8, [&](std::int64_t row) {
    select_row(isa, options, task, row);
  });
}

}  // namespace pleiad::kernels
