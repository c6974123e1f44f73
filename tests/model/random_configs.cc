#include "tests/model/random_configs.h"

#include <algorithm>
#include <initializer_list>

#include "base/random.h"

namespace pleiad::model::reference {
namespace {

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  std::int64_t between(std::int64_t low, std::int64_t high) { return random_.between(low, high); }
  bool flip() { return random_.below(2) == 0; }
  double one_of(std::initializer_list<double> values) {
    return values.begin()[random_.below(values.size())];
  }

 private:
  Random random_;
};

Json yarn(Draw& draw, bool is_deepseek) {
  Json out = JsonObject{};
  out.set("type", "yarn");
  out.set("factor", draw.one_of({1.5, 4, 40}));
  out.set("original_max_position_embeddings", draw.between(8, 4096));
  out.set("beta_fast", draw.one_of({1, 8, 32}));
  out.set("beta_slow", 1);
  if (draw.flip()) out.set("truncate", draw.flip());
  if (is_deepseek && draw.flip()) {
    out.set("mscale", draw.one_of({0.5, 0.707, 1}));
    out.set("mscale_all_dim", draw.one_of({0.5, 0.707, 1}));
  }
  return out;
}

void draw_whole(Draw& draw, Json& out) {
  out.set("vocab_size", draw.between(3, 200));
  out.set("hidden_size", draw.between(8, 100));
  out.set("intermediate_size", draw.between(1, 70));
  out.set("num_hidden_layers", draw.between(1, 4));
  out.set("tie_word_embeddings", draw.flip());
  out.set("rms_norm_eps", draw.one_of({1e-6, 1e-5}));
  out.set("rope_theta", draw.one_of({1e4, 5e4, 1e6}));
}

void draw_latent_attention(Draw& draw, Json& out) {
  const std::int64_t heads = draw.between(1, 6);
  out.set("num_attention_heads", heads);
  out.set("num_key_value_heads", heads);
  // The norm of one or two numbers is all but their signs, and says much of small errors.
  out.set("q_lora_rank", draw.flip() ? Json() : Json(draw.between(4, 40)));
  out.set("kv_lora_rank", draw.between(4, 70));
  out.set("qk_nope_head_dim", draw.between(1, 40));
  out.set("qk_rope_head_dim", 2 * draw.between(1, 16));
  out.set("v_head_dim", draw.between(1, 40));
  out.set("rope_scaling", draw.flip() ? yarn(draw, true) : Json());
}

void draw_grouped_attention(Draw& draw, Json& out) {
  const std::int64_t kv_heads = draw.between(1, 3);
  out.set("num_attention_heads", kv_heads * draw.between(1, 5));
  out.set("num_key_value_heads", kv_heads);
  out.set("head_dim", 2 * draw.between(1, 36));
  out.set("rope_scaling", draw.flip() ? yarn(draw, false) : Json());
}

// Experts in groups, with shared ones and dense layers, of the families that spell it so.
void draw_grouped_experts(Draw& draw, Json& out) {
  const std::int64_t groups = draw.between(1, 4);
  const std::int64_t each = draw.between(2, 5);
  const std::int64_t chosen = draw.between(1, groups);
  out.set("n_routed_experts", groups * each);
  out.set("n_group", groups);
  out.set("topk_group", chosen);
  out.set("num_experts_per_tok", draw.between(1, std::min<std::int64_t>(8, each * chosen)));
  out.set("n_shared_experts", draw.between(0, 3));
  out.set("moe_intermediate_size", draw.between(1, 40));
  out.set("first_k_dense_replace", draw.between(0, 2));
  out.set("norm_topk_prob", draw.flip());
  out.set("routed_scaling_factor", draw.one_of({1, 2.5}));
}

void draw_plain_experts(Draw& draw, const char* count_key, Json& out) {
  const std::int64_t count = draw.between(1, 14);
  out.set(count_key, count);
  out.set("num_experts_per_tok", draw.between(1, std::min<std::int64_t>(8, count)));
}

void draw_family(Draw& draw, const std::string& family, Json& out) {
  if (family == "DeepseekV2" || family == "DeepseekV3") {
    draw_latent_attention(draw, out);
    draw_grouped_experts(draw, out);
    out.set("moe_layer_freq", draw.between(1, 2));
    if (family == "DeepseekV3") {
      out.set("rope_interleave", draw.flip());
    } else if (draw.flip()) {
      out.set("topk_method", "group_limited_greedy");
    }
    return;
  }
  draw_grouped_attention(draw, out);
  out.set("attention_bias", draw.flip());
  if (family == "Glm4Moe") {
    draw_grouped_experts(draw, out);
    out.set("use_qk_norm", draw.flip());
    out.set("head_dim", 8 * draw.between(1, 9));
    out.set("partial_rotary_factor", draw.one_of({0.25, 0.5, 1}));
  } else if (family == "Qwen3Moe") {
    draw_plain_experts(draw, "num_experts", out);
    out.set("moe_intermediate_size", draw.between(1, 40));
    out.set("norm_topk_prob", draw.flip());
    out.set("decoder_sparse_step", draw.between(1, 2));
    out.set("max_window_layers", Json());
    out.set("use_sliding_window", draw.flip());
    out.set("sliding_window", draw.between(1, 160));
  } else if (family == "Mixtral") {
    draw_plain_experts(draw, "num_local_experts", out);
    out.set("attention_bias", false);
    out.set("sliding_window", draw.flip() ? Json() : Json(draw.between(1, 160)));
  } else {
    draw_plain_experts(draw, "num_local_experts", out);
    out.set("rope_scaling", yarn(draw, false));
    out.set("sliding_window", draw.between(1, 160));
    out.set("swiglu_limit", draw.one_of({0.5, 2, 7}));
  }
}

}  // namespace

TinyCase random_case(const std::string& family, std::uint64_t seed) {
  Draw draw(seed);
  Json changes = JsonObject{};
  draw_whole(draw, changes);
  draw_family(draw, family, changes);
  TinyCase out;
  out.family = family;
  out.name = "Seed" + std::to_string(seed);
  out.changes = changes.dump();
  out.score_bias = draw.one_of({0, -3, 3});
  out.sink = draw.one_of({0, 10, -10});
  out.dtype = draw.flip() ? "F32" : draw.flip() ? "BF16" : "F16";
  return out;
}

}  // namespace pleiad::model::reference
