#include "tests/model/reference_attention.h"

#include <algorithm>
#include <cmath>

#include <numbers>

namespace pleiad::model::reference {
namespace {

// One head: queries, keys and values of every token.
struct Head {
  Rows q;
  Rows k;
  Rows v;
};

// The angle by which position 1 turns each pair, [width / 2].
Row frequencies(const Rope& rope) {
  const auto width = static_cast<double>(rope.width);
  const auto correction = [&](double beta) {
    return width * std::log(rope.original_positions / (2 * std::numbers::pi * beta)) /
           (2 * std::log(rope.theta));
  };
  double low = 0;
  double high = 0;
  if (rope.factor > 1) {
    low = correction(rope.beta_fast);
    high = correction(rope.beta_slow);
    if (rope.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, width - 1);
    if (low == high) high += 0.001;
  }
  Row out;
  for (std::int64_t i = 0; i < rope.width / 2; ++i) {
    const double plain = std::pow(rope.theta, -2 * static_cast<double>(i) / width);
    const double ramp =
        rope.factor > 1 ? std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0) : 0;
    out.push_back(plain / rope.factor * ramp + plain * (1 - ramp));
  }
  return out;
}

// Turns x[first, first + rope.width) as position `position` does.
void turn(const Rope& rope, const Row& frequency, std::size_t position, Row& x, std::size_t first) {
  const auto pairs = static_cast<std::size_t>(rope.width) / 2;
  for (std::size_t i = 0; i < pairs; ++i) {
    double& a = x[first + (rope.interleaved ? 2 * i : i)];
    double& b = x[first + (rope.interleaved ? 2 * i + 1 : i + pairs)];
    const double angle = static_cast<double>(position) * frequency[i];
    const double cosine = std::cos(angle) * rope.magnitude;
    const double sine = std::sin(angle) * rope.magnitude;
    const double turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
  }
}

Row part(const Row& x, std::size_t first, std::size_t count) {
  const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

void append(Row& out, const Row& more) {
  out.insert(out.end(), more.begin(), more.end());
}

// Softmax(q k^T scale) v of one head; query i sees the last `window` positions up to i.
Rows attend(const Head& head, double scale, std::int64_t window, const double* sink) {
  Rows out;
  for (std::size_t i = 0; i < head.q.size(); ++i) {
    const auto seen = window > 0 ? static_cast<std::size_t>(window) : i + 1;
    const std::size_t first = i + 1 > seen ? i + 1 - seen : 0;
    Row scores;
    for (std::size_t j = first; j <= i; ++j) {
      double score = 0;
      for (std::size_t d = 0; d < head.q[i].size(); ++d) {
        score += head.q[i][d] * head.k[j][d];
      }
      scores.push_back(score * scale);
    }
    const Row weights = softmax(scores, sink);
    Row sum(head.v[i].size(), 0.0);
    for (std::size_t j = first; j <= i; ++j) {
      add_scaled(sum, head.v[j], weights[j - first]);
    }
    out.push_back(std::move(sum));
  }
  return out;
}

std::vector<Head> latent_heads(
    const Config& config,
    const Tensors& tensors,
    const std::string& prefix,
    const Rows& x
) {
  const Latent& latent = config.latent;
  const bool low_rank = latent.q_rank > 0;
  const Tensor q_proj = tensors.get_if(!low_rank, prefix + "q_proj.weight");
  const Tensor q_a = tensors.get_if(low_rank, prefix + "q_a_proj.weight");
  const Tensor q_norm = tensors.get_if(low_rank, prefix + "q_a_layernorm.weight");
  const Tensor q_b = tensors.get_if(low_rank, prefix + "q_b_proj.weight");
  const Tensor kv_a = tensors.get(prefix + "kv_a_proj_with_mqa.weight");
  const Tensor kv_norm = tensors.get(prefix + "kv_a_layernorm.weight");
  const Tensor kv_b = tensors.get(prefix + "kv_b_proj.weight");
  const Row frequency = frequencies(config.rope);
  const auto nope = static_cast<std::size_t>(latent.nope);
  const auto rope = static_cast<std::size_t>(config.rope.width);
  const auto value = static_cast<std::size_t>(latent.value);
  const auto rank = static_cast<std::size_t>(latent.kv_rank);

  std::vector<Head> heads(static_cast<std::size_t>(config.heads));
  for (std::size_t p = 0; p < x.size(); ++p) {
    const Row q = low_rank ? linear(rms_norm(linear(x[p], q_a), q_norm, config.eps), q_b)
                           : linear(x[p], q_proj);
    const Row compressed = linear(x[p], kv_a);
    const Row kv = linear(rms_norm(part(compressed, 0, rank), kv_norm, config.eps), kv_b);
    Row k_rope = part(compressed, rank, rope);
    turn(config.rope, frequency, p, k_rope, 0);
    for (std::size_t h = 0; h < heads.size(); ++h) {
      Row q_head = part(q, h * (nope + rope), nope + rope);
      turn(config.rope, frequency, p, q_head, nope);
      Row k_head = part(kv, h * (nope + value), nope);
      append(k_head, k_rope);
      heads[h].q.push_back(std::move(q_head));
      heads[h].k.push_back(std::move(k_head));
      heads[h].v.push_back(part(kv, h * (nope + value) + nope, value));
    }
  }
  return heads;
}

std::vector<Head> grouped_heads(
    const Config& config,
    const Tensors& tensors,
    const std::string& prefix,
    const Rows& x
) {
  const bool bias = config.qkv_bias;
  const Tensor q_proj = tensors.get(prefix + "q_proj.weight");
  const Tensor k_proj = tensors.get(prefix + "k_proj.weight");
  const Tensor v_proj = tensors.get(prefix + "v_proj.weight");
  const Tensor q_bias = tensors.get_if(bias, prefix + "q_proj.bias");
  const Tensor k_bias = tensors.get_if(bias, prefix + "k_proj.bias");
  const Tensor v_bias = tensors.get_if(bias, prefix + "v_proj.bias");
  const Tensor q_norm = tensors.get_if(config.qk_norm, prefix + "q_norm.weight");
  const Tensor k_norm = tensors.get_if(config.qk_norm, prefix + "k_norm.weight");
  const Row frequency = frequencies(config.rope);
  const auto size = static_cast<std::size_t>(config.head);
  const auto sharing = static_cast<std::size_t>(config.heads / config.kv_heads);

  std::vector<Head> heads(static_cast<std::size_t>(config.heads));
  for (std::size_t p = 0; p < x.size(); ++p) {
    const Row q = linear(x[p], q_proj, q_bias);
    const Row k = linear(x[p], k_proj, k_bias);
    const Row v = linear(x[p], v_proj, v_bias);
    for (std::size_t h = 0; h < heads.size(); ++h) {
      Row q_head = part(q, h * size, size);
      Row k_head = part(k, h / sharing * size, size);
      if (config.qk_norm) {
        q_head = rms_norm(q_head, q_norm, config.eps);
        k_head = rms_norm(k_head, k_norm, config.eps);
      }
      turn(config.rope, frequency, p, q_head, 0);
      turn(config.rope, frequency, p, k_head, 0);
      heads[h].q.push_back(std::move(q_head));
      heads[h].k.push_back(std::move(k_head));
      heads[h].v.push_back(part(v, h / sharing * size, size));
    }
  }
  return heads;
}

}  // namespace

Rows attention(
    const Config& config,
    const Tensors& tensors,
    const std::string& prefix,
    std::int64_t window,
    const Rows& x
) {
  const std::string names = prefix + "self_attn.";
  const auto heads = config.is_deepseek() ? latent_heads(config, tensors, names, x)
                                          : grouped_heads(config, tensors, names, x);
  const bool has_sinks = config.family == Family::GptOss;
  const Tensor sinks = tensors.get_if(has_sinks, names + "sinks");
  Rows joined(x.size());
  for (std::size_t h = 0; h < heads.size(); ++h) {
    const double* sink = has_sinks ? &sinks.values.at(h) : nullptr;
    const Rows out = attend(heads[h], config.score_scale, window, sink);
    for (std::size_t p = 0; p < x.size(); ++p) {
      append(joined[p], out[p]);
    }
  }
  const Tensor o_proj = tensors.get(names + "o_proj.weight");
  const Tensor o_bias = tensors.get_if(config.out_bias, names + "o_proj.bias");
  Rows out;
  for (const Row& row : joined) {
    out.push_back(linear(row, o_proj, o_bias));
  }
  return out;
}

}  // namespace pleiad::model::reference
