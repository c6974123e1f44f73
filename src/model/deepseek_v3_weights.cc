#include "model/deepseek_v3_weights.h"

#include <algorithm>
#include <utility>

namespace pleiad::model {
namespace {

// Tells a WeightLoader what the config says the checkpoint has.
class Wishes {
 public:
  Wishes(const DeepseekV3Config& config, const LoadOptions& options, WeightLoader& loader)
      : config_(config), options_(options), loader_(loader) {}

  void layer(std::int64_t index, std::int64_t moe_index, DeepseekV3Weights::Layer& out);
  void head(DeepseekV3Weights& out);

 private:
  void attention(const std::string& prefix, MlaWeights& out);
  void moe(const std::string& prefix, std::int64_t moe_index, ep::MoeWeights& out);
  void expert(
      const std::string& prefix,
      std::int64_t shard,
      kernels::PackedMatrix& gate_up,
      kernels::PackedMatrix& down
  );
  void swiglu(
      const std::string& prefix,
      std::int64_t width,
      kernels::PackedMatrix& gate_up,
      kernels::PackedMatrix& down
  );

  const DeepseekV3Config& config_;
  const LoadOptions& options_;
  WeightLoader& loader_;
};

void Wishes::layer(std::int64_t index, std::int64_t moe_index, DeepseekV3Weights::Layer& out) {
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  loader_.vector(prefix + "input_layernorm.weight", config_.hidden, out.input_norm);
  loader_.vector(
      prefix + "post_attention_layernorm.weight", config_.hidden, out.post_attention_norm
  );
  attention(prefix + "self_attn.", out.attention);
  if (config_.is_moe(index)) {
    moe(prefix + "mlp.", moe_index, out.moe.emplace());
  } else {
    DenseMlpWeights& dense = out.dense.emplace();
    swiglu(prefix + "mlp.", config_.intermediate, dense.gate_up, dense.down);
  }
}

void Wishes::attention(const std::string& prefix, MlaWeights& out) {
  const DeepseekV3Config& c = config_;
  const std::int64_t query = c.heads * (c.nope + c.rope);
  const MatrixPart kv_a{
      .name = prefix + "kv_a_proj_with_mqa.weight",
      .rows = c.kv_lora + c.rope,
      .columns = c.hidden};
  if (c.q_lora > 0) {
    loader_.matrix(
        {{.name = prefix + "q_a_proj.weight", .rows = c.q_lora, .columns = c.hidden}, kv_a},
        out.down
    );
    loader_.vector(prefix + "q_a_layernorm.weight", c.q_lora, out.q_norm);
    loader_.matrix(
        {{.name = prefix + "q_b_proj.weight", .rows = query, .columns = c.q_lora}}, out.q_up
    );
  } else {
    loader_.matrix(
        {{.name = prefix + "q_proj.weight", .rows = query, .columns = c.hidden}, kv_a}, out.down
    );
  }
  loader_.vector(prefix + "kv_a_layernorm.weight", c.kv_lora, out.kv_norm);
  // Each head's rows of kv_b: first W_UK [nope, kv_lora], then W_UV [value, kv_lora].
  out.key_up.resize(static_cast<std::size_t>(c.heads));
  out.value_up.resize(static_cast<std::size_t>(c.heads));
  for (std::int64_t h = 0; h < c.heads; ++h) {
    const std::int64_t first = h * (c.nope + c.value);
    MatrixPart part{
        .name = prefix + "kv_b_proj.weight",
        .rows = c.heads * (c.nope + c.value),
        .columns = c.kv_lora,
        .row_begin = first,
        .row_count = c.nope,
        .transposed = true,
    };
    loader_.matrix({part}, out.key_up[static_cast<std::size_t>(h)]);
    part.row_begin = first + c.nope;
    part.row_count = c.value;
    part.transposed = false;
    loader_.matrix({part}, out.value_up[static_cast<std::size_t>(h)]);
  }
  loader_.matrix(
      {{.name = prefix + "o_proj.weight", .rows = c.hidden, .columns = c.heads * c.value}}, out.out
  );
}

// Gate and up stacked, and down.
void Wishes::swiglu(
    const std::string& prefix,
    std::int64_t width,
    kernels::PackedMatrix& gate_up,
    kernels::PackedMatrix& down
) {
  const std::int64_t hidden = config_.hidden;
  loader_.matrix(
      {{.name = prefix + "gate_proj.weight", .rows = width, .columns = hidden},
       {.name = prefix + "up_proj.weight", .rows = width, .columns = hidden}},
      gate_up
  );
  loader_.matrix({{.name = prefix + "down_proj.weight", .rows = hidden, .columns = width}}, down);
}

// One shard of an expert: its part of the intermediate elements.
void Wishes::expert(
    const std::string& prefix,
    std::int64_t shard,
    kernels::PackedMatrix& gate_up,
    kernels::PackedMatrix& down
) {
  const std::int64_t hidden = config_.hidden;
  const std::int64_t width = config_.moe_intermediate;
  const std::int64_t part = width / options_.moe_tp;
  MatrixPart gate{
      .name = prefix + "gate_proj.weight",
      .rows = width,
      .columns = hidden,
      .row_begin = shard * part,
      .row_count = part};
  MatrixPart up = gate;
  up.name = prefix + "up_proj.weight";
  loader_.matrix({gate, up}, gate_up);
  loader_.matrix(
      {{.name = prefix + "down_proj.weight",
        .rows = hidden,
        .columns = width,
        .column_begin = shard * part,
        .column_count = part}},
      down
  );
}

void Wishes::moe(const std::string& prefix, std::int64_t moe_index, ep::MoeWeights& out) {
  const std::int64_t experts = config_.gate.experts;
  loader_.matrix(
      {{.name = prefix + "gate.weight", .rows = experts, .columns = config_.hidden}},
      kernels::Compute::Float32,
      out.gate
  );
  loader_.vector(prefix + "gate.e_score_correction_bias", experts, out.gate_bias);
  out.shards.resize(static_cast<std::size_t>(options_.moe_tp));
  for (std::int32_t t = 0; t < options_.moe_tp; ++t) {
    ep::ExpertShard& shard = out.shards[static_cast<std::size_t>(t)];
    shard.gate_up.resize(static_cast<std::size_t>(experts));
    shard.down.resize(static_cast<std::size_t>(experts));
    for (std::int32_t e = 0; e < experts; ++e) {
      if (options_.holds && !options_.holds(moe_index, e, t)) continue;
      const auto at = static_cast<std::size_t>(e);
      expert(prefix + "experts." + std::to_string(e) + ".", t, shard.gate_up[at], shard.down[at]);
    }
  }
  if (config_.shared_experts == 0) return;
  swiglu(
      prefix + "shared_experts.",
      config_.moe_intermediate * config_.shared_experts,
      out.shared_gate_up,
      out.shared_down
  );
}

void Wishes::head(DeepseekV3Weights& out) {
  loader_.vector("model.norm.weight", config_.hidden, out.final_norm);
  const char* head = config_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  loader_.matrix({{.name = head, .rows = config_.vocabulary, .columns = config_.hidden}}, out.head);
}

}  // namespace

Result<std::unique_ptr<DeepseekV3Weights>> load_deepseek_v3_weights(
    const DeepseekV3Config& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  auto out = std::make_unique<DeepseekV3Weights>();
  WeightLoader loader(checkpoint, options.compute);
  Wishes wishes(config, options, loader);
  out->layers.resize(static_cast<std::size_t>(config.layers));
  std::int64_t moe_index = 0;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    wishes.layer(i, moe_index, out->layers[static_cast<std::size_t>(i)]);
    moe_index += config.is_moe(i) ? 1 : 0;
  }
  wishes.head(*out);
  PLEIAD_TRY(loader.result());

  const device::Shape table{.extents = {config.vocabulary, config.hidden}, .rank = 2};
  PLEIAD_TRY(source, checkpoint.tensor("model.embed_tokens.weight", table));
  PLEIAD_TRY(copy, device::Buffer::allocate(source.bytes.size()));
  std::ranges::copy(source.bytes, copy.data());
  out->embedding_memory = std::move(copy);
  out->embedding = source;
  out->embedding.bytes = {out->embedding_memory.data(), out->embedding_memory.size()};

  PLEIAD_TRY(packed, loader.load(*options.pool, options.weight_bytes_max, options.progress));
  out->packed = std::move(packed);
  return out;
}

}  // namespace pleiad::model
