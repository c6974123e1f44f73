#include "tests/model/reference_experts.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace pleiad::model::reference {
namespace {

using Expert = std::function<Row(const Row&)>;

constexpr double kNever = -std::numeric_limits<double>::infinity();

// The indexes of the `count` largest values, equal ones by index.
std::vector<std::size_t> largest(const Row& values, std::int64_t count) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return values[a] > values[b];
  });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

// Scores of experts outside the best groups become -inf. A group is worth the sum of its best
// `counted` scores.
void keep_best_groups(const Experts& experts, std::size_t counted, Row& scores) {
  const auto groups = static_cast<std::size_t>(experts.groups);
  const std::size_t size = scores.size() / groups;
  Row worth;
  for (std::size_t g = 0; g < groups; ++g) {
    const auto begin = scores.begin() + static_cast<std::ptrdiff_t>(g * size);
    Row group(begin, begin + static_cast<std::ptrdiff_t>(size));
    std::ranges::sort(group, std::greater<>());
    double sum = 0;
    for (std::size_t i = 0; i < std::min(counted, size); ++i) {
      sum += group[i];
    }
    worth.push_back(sum);
  }
  const auto kept = largest(worth, experts.topk_groups);
  for (std::size_t e = 0; e < scores.size(); ++e) {
    if (std::ranges::count(kept, e / size) == 0) scores[e] = kNever;
  }
}

// Between the last of the `count` largest values and the next.
double margin_after(Row values, std::int64_t count) {
  std::ranges::sort(values, std::greater<>());
  const auto last = static_cast<std::size_t>(count) - 1;
  return last + 1 < values.size() ? values[last] - values[last + 1]
                                  : std::numeric_limits<double>::infinity();
}

Choice choose_after_softmax(const Row& logits, std::int64_t topk) {
  Choice out{.experts = {}, .margin = margin_after(logits, topk)};
  Row chosen;
  for (const std::size_t e : largest(logits, topk)) {
    out.experts.emplace_back(e, 0.0);
    chosen.push_back(logits[e]);
  }
  const Row weights = softmax(chosen);
  for (std::size_t i = 0; i < out.experts.size(); ++i) {
    out.experts[i].second = weights[i];
  }
  return out;
}

Row swiglu(const Row& x, const Tensor& gate_proj, const Tensor& up_proj, const Tensor& down_proj) {
  Row gate = linear(x, gate_proj);
  const Row up = linear(x, up_proj);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    gate[i] *= sigmoid(gate[i]) * up[i];
  }
  return linear(gate, down_proj);
}

Expert swiglu_at(const Tensors& tensors, const std::string& prefix, bool mixtral_names = false) {
  const auto load = [&](const char* usual, const char* mixtral) {
    return tensors.get(prefix + (mixtral_names ? mixtral : usual) + ".weight");
  };
  return [gate = load("gate_proj", "w1"),
          up = load("up_proj", "w3"),
          down = load("down_proj", "w2")](const Row& x) { return swiglu(x, gate, up, down); };
}

// GPT-OSS: gate and up interleaved in one matrix stored [in, out], clamped, with biases.
std::vector<Expert>
gpt_oss_experts(const Config& config, const Tensors& tensors, const std::string& prefix) {
  const Tensor gate_up = tensors.get(prefix + "gate_up_proj");
  const Tensor gate_up_bias = tensors.get(prefix + "gate_up_proj_bias");
  const Tensor down = tensors.get(prefix + "down_proj");
  const Tensor down_bias = tensors.get(prefix + "down_proj_bias");
  const auto row_of = [](const Tensor& matrix, std::size_t row) {
    const auto width = static_cast<std::size_t>(matrix.shape[1]);
    const auto begin = matrix.values.begin() + static_cast<std::ptrdiff_t>(row * width);
    return Row(begin, begin + static_cast<std::ptrdiff_t>(width));
  };
  std::vector<Expert> out;
  for (std::size_t e = 0; e < static_cast<std::size_t>(config.experts.count); ++e) {
    out.emplace_back([limit = config.activation_limit,
                      in = gate_up.slice(e),
                      in_bias = row_of(gate_up_bias, e),
                      back = down.slice(e),
                      back_bias = row_of(down_bias, e)](const Row& x) {
      const Row both = linear_transposed(x, in, in_bias);
      Row activated;
      for (std::size_t i = 0; i < both.size(); i += 2) {
        const double gate = std::min(both[i], limit);
        const double up = std::clamp(both[i + 1], -limit, limit);
        activated.push_back(gate * sigmoid(1.702 * gate) * (up + 1));
      }
      return linear_transposed(activated, back, back_bias);
    });
  }
  return out;
}

std::vector<Expert>
load_experts(const Config& config, const Tensors& tensors, const std::string& prefix) {
  const bool is_mixtral = config.family == Family::Mixtral;
  if (config.family == Family::GptOss) {
    return gpt_oss_experts(config, tensors, prefix + "mlp.experts.");
  }
  std::vector<Expert> out;
  for (std::int64_t e = 0; e < config.experts.count; ++e) {
    const std::string block = is_mixtral ? "block_sparse_moe" : "mlp";
    out.push_back(
        swiglu_at(tensors, prefix + block + ".experts." + std::to_string(e) + ".", is_mixtral)
    );
  }
  return out;
}

}  // namespace

Choice choose_experts(const Config& config, const Row& logits, const Row& choice_bias) {
  const Experts& experts = config.experts;
  if (config.family == Family::GptOss) return choose_after_softmax(logits, experts.topk);
  const bool is_biased = config.family == Family::DeepseekV3 || config.family == Family::Glm4Moe;
  Row scores = softmax(logits);
  Row choice = scores;
  if (is_biased) {
    for (std::size_t e = 0; e < logits.size(); ++e) {
      scores[e] = sigmoid(logits[e]);
      choice[e] = scores[e] + choice_bias[e];
    }
  }
  if (experts.groups > 1) keep_best_groups(experts, is_biased ? 2 : 1, choice);
  Choice out{.experts = {}, .margin = margin_after(choice, experts.topk)};
  double sum = 1e-20;
  for (const std::size_t e : largest(choice, experts.topk)) {
    out.experts.emplace_back(e, scores[e]);
    sum += scores[e];
  }
  for (auto& [expert, weight] : out.experts) {
    weight *= experts.scale / (experts.normalise ? sum : 1.0);
  }
  return out;
}

MlpRows
mlp(const Config& config, const Tensors& tensors, const std::string& prefix, bool moe, const Rows& x
) {
  MlpRows out;
  if (!moe) {
    const Expert dense = swiglu_at(tensors, prefix + "mlp.");
    for (const Row& row : x) {
      out.rows.push_back(dense(row));
    }
    return out;
  }
  std::string gate = prefix + "mlp.gate";
  if (config.family == Family::Mixtral) gate = prefix + "block_sparse_moe.gate";
  const bool is_gpt_oss = config.family == Family::GptOss;
  if (is_gpt_oss) gate = prefix + "mlp.router";
  const bool is_biased = config.family == Family::DeepseekV3 || config.family == Family::Glm4Moe;
  const Tensor router = tensors.get(gate + ".weight");
  const Tensor router_bias = tensors.get_if(is_gpt_oss, gate + ".bias");
  const Tensor choice_bias = tensors.get_if(is_biased, gate + ".e_score_correction_bias");
  const auto experts = load_experts(config, tensors, prefix);
  Expert shared;
  if (config.experts.shared_width > 0) {
    shared = swiglu_at(tensors, prefix + "mlp.shared_experts.");
  }
  for (const Row& row : x) {
    Row sum = shared ? shared(row) : Row(row.size(), 0.0);
    const Row logits = linear(row, router, router_bias);
    const Choice choice = choose_experts(config, logits, choice_bias.values);
    for (const auto& [expert, weight] : choice.experts) {
      add_scaled(sum, experts[expert](row), weight);
    }
    out.margin = std::min(out.margin, choice.margin);
    out.rows.push_back(std::move(sum));
  }
  return out;
}

}  // namespace pleiad::model::reference
