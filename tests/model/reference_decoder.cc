#include "tests/model/reference_decoder.h"

#include <algorithm>
#include <limits>
#include <string>

#include "tests/model/reference_attention.h"
#include "tests/model/reference_config.h"
#include "tests/model/reference_experts.h"
#include "tests/model/reference_math.h"

namespace pleiad::model::reference {
namespace {

Row embedding(const Tensor& table, TokenId token) {
  const auto width = static_cast<std::ptrdiff_t>(table.shape[1]);
  const auto begin = table.values.begin() + static_cast<std::ptrdiff_t>(token) * width;
  return {begin, begin + width};
}

Rows normalise(const Rows& rows, const Tensor& gain, double eps) {
  Rows out;
  for (const Row& row : rows) {
    out.push_back(rms_norm(row, gain, eps));
  }
  return out;
}

void add(Rows& sum, const Rows& more) {
  for (std::size_t i = 0; i < sum.size(); ++i) {
    add_scaled(sum[i], more[i], 1.0);
  }
}

}  // namespace

Reference compute_reference(
    const Json& config_json,
    const std::filesystem::path& folder,
    std::span<const TokenId> tokens
) {
  const Config config = read_config(config_json);
  const Tensors tensors(folder);
  const Tensor table = tensors.get("model.embed_tokens.weight");
  Reference out{.logits = {}, .margin = std::numeric_limits<double>::infinity()};
  Rows hidden;
  for (const TokenId token : tokens) {
    hidden.push_back(embedding(table, token));
  }
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const auto& [moe, window] = config.layers[i];
    const std::string prefix = layer_prefix(i);
    const Tensor before = tensors.get(prefix + "input_layernorm.weight");
    add(hidden, attention(config, tensors, prefix, window, normalise(hidden, before, config.eps)));
    const Tensor between = tensors.get(prefix + "post_attention_layernorm.weight");
    const auto mixed = mlp(config, tensors, prefix, moe, normalise(hidden, between, config.eps));
    add(hidden, mixed.rows);
    out.margin = std::min(out.margin, mixed.margin);
  }
  const Tensor head = config.tied ? table : tensors.get("lm_head.weight");
  for (const Row& row : normalise(hidden, tensors.get("model.norm.weight"), config.eps)) {
    for (const double logit : linear(row, head)) {
      out.logits.push_back(static_cast<float>(logit));
    }
  }
  return out;
}

}  // namespace pleiad::model::reference
