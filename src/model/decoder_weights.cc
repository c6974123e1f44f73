#include "model/decoder_weights.h"

#include <algorithm>
#include <utility>

namespace pleiad::model {
namespace {

// Tells a WeightLoader what the config says the checkpoint has.
class Wishes {
 public:
  Wishes(const DecoderConfig& config, const LoadOptions& options, WeightLoader& loader)
      : config_(config), options_(options), loader_(loader) {}

  void layer(std::int64_t index, std::int64_t moe_index, DecoderWeights::Layer& out);
  void head(DecoderWeights& out);

 private:
  // Part `shard` of the intermediate elements of an expert.
  struct Shard {
    std::int64_t expert = 0;
    std::int64_t first = 0;
    std::int64_t count = 0;
  };

  void attention(const std::string& prefix, const MlaShape& shape, MlaWeights& out);
  void heads_of_latents(const std::string& prefix, const MlaShape& shape, MlaWeights& out);
  void attention(const std::string& prefix, const GqaShape& shape, GqaWeights& out);
  void moe(const std::string& prefix, std::int64_t moe_index, ep::MoeWeights& out);
  void gate(const std::string& prefix, ep::MoeWeights& out);
  void experts(
      const std::string& prefix,
      std::int64_t moe_index,
      std::int32_t shard,
      ep::ExpertShard& out
  );
  void expert(const std::string& prefix, const Shard& shard, ep::ExpertShard& out);
  void stacked_expert(const std::string& prefix, const Shard& shard, ep::ExpertShard& out);
  void stacked_biases(const std::string& prefix, const Shard& shard, ep::ExpertShard& out);
  void swiglu(
      const std::string& prefix,
      std::int64_t width,
      kernels::PackedMatrix& gate_up,
      kernels::PackedMatrix& down
  );
  // Quantised tensors only where the config says that there are some.
  void matrix(const std::vector<MatrixPart>& parts, kernels::PackedMatrix& out) {
    if (config_.quantization.format == kernels::WeightFormat::Plain) {
      loader_.matrix(parts, options_.compute, out);
    } else {
      loader_.matrix(parts, out);
    }
  }
  // Part of a name that depends on the family.
  static std::string join(const std::string& prefix, std::string_view name) {
    return prefix + std::string(name);
  }

  const DecoderConfig& config_;
  const LoadOptions& options_;
  WeightLoader& loader_;
};

void Wishes::layer(std::int64_t index, std::int64_t moe_index, DecoderWeights::Layer& out) {
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  loader_.vector(prefix + "input_layernorm.weight", config_.hidden, out.input_norm);
  loader_.vector(
      prefix + "post_attention_layernorm.weight", config_.hidden, out.post_attention_norm
  );
  if (const auto* latent = std::get_if<MlaShape>(&config_.attention)) {
    attention(prefix + "self_attn.", *latent, out.attention.emplace<MlaWeights>());
  } else {
    const auto& grouped = std::get<GqaShape>(config_.attention);
    attention(prefix + "self_attn.", grouped, out.attention.emplace<GqaWeights>());
  }
  if (config_.layers[static_cast<std::size_t>(index)].moe) {
    moe(join(prefix, config_.names.moe), moe_index, out.moe.emplace());
  } else {
    DenseMlpWeights& dense = out.dense.emplace();
    swiglu(prefix + "mlp.", config_.intermediate, dense.gate_up, dense.down);
  }
}

void Wishes::attention(const std::string& prefix, const MlaShape& shape, MlaWeights& out) {
  const MatrixPart kv_a{
      .name = prefix + "kv_a_proj_with_mqa.weight",
      .rows = shape.kv_lora + shape.rope,
      .columns = shape.hidden};
  if (shape.q_lora > 0) {
    matrix(
        {{.name = prefix + "q_a_proj.weight", .rows = shape.q_lora, .columns = shape.hidden}, kv_a},
        out.down
    );
    loader_.vector(prefix + "q_a_layernorm.weight", shape.q_lora, out.q_norm);
    matrix(
        {{.name = prefix + "q_b_proj.weight", .rows = shape.query(), .columns = shape.q_lora}},
        out.q_up
    );
  } else {
    matrix(
        {{.name = prefix + "q_proj.weight", .rows = shape.query(), .columns = shape.hidden}, kv_a},
        out.down
    );
  }
  loader_.vector(prefix + "kv_a_layernorm.weight", shape.kv_lora, out.kv_norm);
  heads_of_latents(prefix, shape, out);
  matrix(
      {{.name = prefix + "o_proj.weight",
        .rows = shape.hidden,
        .columns = shape.heads * shape.value}},
      out.out
  );
}

// Each head's rows of kv_b: first W_UK [nope, kv_lora], then W_UV [value, kv_lora].
void Wishes::heads_of_latents(const std::string& prefix, const MlaShape& shape, MlaWeights& out) {
  out.key_up.resize(static_cast<std::size_t>(shape.heads));
  out.value_up.resize(static_cast<std::size_t>(shape.heads));
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    const std::int64_t first = h * (shape.nope + shape.value);
    MatrixPart part{
        .name = prefix + "kv_b_proj.weight",
        .rows = shape.heads * (shape.nope + shape.value),
        .columns = shape.kv_lora,
        .row_begin = first,
        .row_count = shape.nope,
        .transposed = true,
    };
    matrix({part}, out.key_up[static_cast<std::size_t>(h)]);
    part.row_begin = first + shape.nope;
    part.row_count = shape.value;
    part.transposed = false;
    matrix({part}, out.value_up[static_cast<std::size_t>(h)]);
  }
}

void Wishes::attention(const std::string& prefix, const GqaShape& shape, GqaWeights& out) {
  const std::int64_t kv = shape.kv_heads * shape.head;
  const auto projection = [&](const char* name, std::int64_t rows) {
    return MatrixPart{
        .name = join(prefix, name) + "_proj.weight", .rows = rows, .columns = shape.hidden};
  };
  matrix({projection("q", shape.query()), projection("k", kv), projection("v", kv)}, out.qkv);
  if (shape.qkv_bias) {
    for (const auto& [name, size] :
         {std::pair{"q", shape.query()}, std::pair{"k", kv}, std::pair{"v", kv}}) {
      std::vector<float> bias;
      loader_.vector(join(prefix, name) + "_proj.bias", size, bias);
      out.qkv_bias.insert(out.qkv_bias.end(), bias.begin(), bias.end());
    }
  }
  if (shape.qk_norm) {
    loader_.vector(prefix + "q_norm.weight", shape.head, out.q_norm);
    loader_.vector(prefix + "k_norm.weight", shape.head, out.k_norm);
  }
  if (shape.sinks) loader_.vector(prefix + "sinks", shape.heads, out.sinks);
  matrix(
      {{.name = prefix + "o_proj.weight", .rows = shape.hidden, .columns = shape.query()}}, out.out
  );
  if (shape.out_bias) loader_.vector(prefix + "o_proj.bias", shape.hidden, out.out_bias);
}

// Gate and up stacked, and down.
void Wishes::swiglu(
    const std::string& prefix,
    std::int64_t width,
    kernels::PackedMatrix& gate_up,
    kernels::PackedMatrix& down
) {
  const std::int64_t hidden = config_.hidden;
  matrix(
      {{.name = prefix + "gate_proj.weight", .rows = width, .columns = hidden},
       {.name = prefix + "up_proj.weight", .rows = width, .columns = hidden}},
      gate_up
  );
  matrix({{.name = prefix + "down_proj.weight", .rows = hidden, .columns = width}}, down);
}

void Wishes::expert(const std::string& prefix, const Shard& shard, ep::ExpertShard& out) {
  const std::int64_t hidden = config_.hidden;
  const std::int64_t width = config_.moe.intermediate;
  const auto at = static_cast<std::size_t>(shard.expert);
  const std::string name = prefix + std::to_string(shard.expert) + ".";
  MatrixPart gate{
      .name = join(name, config_.names.expert_gate),
      .rows = width,
      .columns = hidden,
      .row_begin = shard.first,
      .row_count = shard.count};
  MatrixPart up = gate;
  up.name = join(name, config_.names.expert_up);
  matrix({gate, up}, out.gate_up[at]);
  matrix(
      {{.name = join(name, config_.names.expert_down),
        .rows = hidden,
        .columns = width,
        .column_begin = shard.first,
        .column_count = shard.count}},
      out.down[at]
  );
}

// From [experts, hidden, 2 * intermediate], where gate and up columns take turns, and [experts,
// intermediate, hidden].
void Wishes::stacked_expert(const std::string& prefix, const Shard& shard, ep::ExpertShard& out) {
  const std::int64_t hidden = config_.hidden;
  const std::int64_t width = config_.moe.intermediate;
  const auto at = static_cast<std::size_t>(shard.expert);
  MatrixPart gate{
      .name = prefix + "gate_up_proj",
      .rows = hidden,
      .columns = 2 * width,
      .index = shard.expert,
      .stacked = config_.moe.gate.experts,
      .column_begin = 2 * shard.first,
      .column_count = shard.count,
      .column_step = 2,
      .transposed = true};
  MatrixPart up = gate;
  ++up.column_begin;
  matrix({gate, up}, out.gate_up[at]);
  matrix(
      {{.name = prefix + "down_proj",
        .rows = width,
        .columns = hidden,
        .index = shard.expert,
        .stacked = config_.moe.gate.experts,
        .row_begin = shard.first,
        .row_count = shard.count,
        .transposed = true}},
      out.down[at]
  );
}

// Biases of all experts, small as they are. That of the last product belongs to the first shard.
void Wishes::stacked_biases(const std::string& prefix, const Shard& shard, ep::ExpertShard& out) {
  const std::int64_t experts = config_.moe.gate.experts;
  const std::int64_t width = config_.moe.intermediate;
  std::vector<float> gate_up;
  loader_.table(prefix + "gate_up_proj_bias", experts, 2 * width, gate_up);
  std::vector<float> down;
  loader_.table(prefix + "down_proj_bias", experts, config_.hidden, down);
  if (gate_up.empty() || down.empty()) return;  // the loader remembers why
  for (std::int64_t e = 0; e < experts; ++e) {
    std::vector<float>& bias = out.gate_up_bias.emplace_back();
    for (const std::int64_t part : {0, 1}) {
      for (std::int64_t i = shard.first; i < shard.first + shard.count; ++i) {
        bias.push_back(gate_up[static_cast<std::size_t>(e * 2 * width + 2 * i + part)]);
      }
    }
    if (shard.first > 0) continue;
    const auto begin = down.begin() + e * config_.hidden;
    out.down_bias.emplace_back(begin, begin + config_.hidden);
  }
}

void Wishes::experts(
    const std::string& prefix,
    std::int64_t moe_index,
    std::int32_t shard,
    ep::ExpertShard& out
) {
  const std::int64_t experts = config_.moe.gate.experts;
  const std::int64_t count = config_.moe.intermediate / options_.moe_tp;
  out.gate_up.resize(static_cast<std::size_t>(experts));
  out.down.resize(static_cast<std::size_t>(experts));
  if (config_.names.stacked_experts) {
    stacked_biases(prefix, {.first = shard * count, .count = count}, out);
  }
  for (std::int32_t e = 0; e < experts; ++e) {
    if (options_.holds && !options_.holds(moe_index, e, shard)) continue;
    const Shard part{.expert = e, .first = shard * count, .count = count};
    if (config_.names.stacked_experts) {
      stacked_expert(prefix, part, out);
    } else {
      expert(prefix, part, out);
    }
  }
}

void Wishes::gate(const std::string& prefix, ep::MoeWeights& out) {
  const std::int64_t experts = config_.moe.gate.experts;
  const TensorNames& names = config_.names;
  loader_.matrix(
      {{.name = join(prefix, names.gate), .rows = experts, .columns = config_.hidden}},
      kernels::Compute::Float32,
      out.gate
  );
  if (!names.choice_bias.empty()) {
    loader_.vector(join(prefix, names.choice_bias), experts, out.choice_bias);
  }
  if (!names.logit_bias.empty()) {
    loader_.vector(join(prefix, names.logit_bias), experts, out.logit_bias);
  }
}

void Wishes::moe(const std::string& prefix, std::int64_t moe_index, ep::MoeWeights& out) {
  gate(prefix, out);
  out.shards.resize(static_cast<std::size_t>(options_.moe_tp));
  for (std::int32_t t = 0; t < options_.moe_tp; ++t) {
    experts(prefix + "experts.", moe_index, t, out.shards[static_cast<std::size_t>(t)]);
  }
  if (config_.moe.shared_intermediate == 0) return;
  swiglu(
      prefix + "shared_experts.",
      config_.moe.shared_intermediate,
      out.shared_gate_up,
      out.shared_down
  );
}

void Wishes::head(DecoderWeights& out) {
  loader_.vector("model.norm.weight", config_.hidden, out.final_norm);
  const char* head = config_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  matrix({{.name = head, .rows = config_.vocabulary, .columns = config_.hidden}}, out.head);
}

// Everything but the embedding, which is copied as it is.
void wish_for_all(
    const DecoderConfig& config,
    const LoadOptions& options,
    WeightLoader& loader,
    DecoderWeights& out
) {
  Wishes wishes(config, options, loader);
  out.layers.resize(config.layers.size());
  std::int64_t moe_index = 0;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    wishes.layer(static_cast<std::int64_t>(i), moe_index, out.layers[i]);
    moe_index += config.layers[i].moe ? 1 : 0;
  }
  wishes.head(out);
}

Result<device::TensorView>
embedding_of(const DecoderConfig& config, const weights::Checkpoint& checkpoint) {
  const device::Shape table{.extents = {config.vocabulary, config.hidden}, .rank = 2};
  PLEIAD_TRY(view, checkpoint.tensor("model.embed_tokens.weight", table));
  const bool is_float = view.dtype == device::DType::F32 || view.dtype == device::DType::BF16 ||
                        view.dtype == device::DType::F16;
  if (is_float) return view;
  return unsupported(
      "tensor model.embed_tokens.weight is {}; supported: F32, BF16, F16",
      device::to_string(view.dtype)
  );
}

Result<void> check_left_over(const DecoderConfig& config, const weights::Checkpoint& checkpoint) {
  const auto layers = static_cast<std::int64_t>(config.layers.size());
  PLEIAD_TRY(check_unread_tensors(checkpoint, tensor_names(config), layers));
  return {};
}

}  // namespace

std::vector<std::string> tensor_names(const DecoderConfig& config) {
  const weights::Checkpoint none;
  WeightLoader loader(none, WeightLoader::NamesOnly{});
  DecoderWeights out;
  wish_for_all(config, {}, loader, out);
  std::vector<std::string> names = loader.names();
  names.emplace_back("model.embed_tokens.weight");
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Result<std::size_t> check_decoder_weights(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  DecoderWeights out;
  WeightLoader loader(checkpoint, options.compute, config.quantization);
  wish_for_all(config, options, loader, out);
  PLEIAD_TRY(loader.result());
  PLEIAD_TRY(check_left_over(config, checkpoint));
  PLEIAD_TRY(embedding, embedding_of(config, checkpoint));
  return loader.bytes() + embedding.bytes.size();
}

Result<std::unique_ptr<DecoderWeights>> load_decoder_weights(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  auto out = std::make_unique<DecoderWeights>();
  WeightLoader loader(checkpoint, options.compute, config.quantization);
  wish_for_all(config, options, loader, *out);
  PLEIAD_TRY(loader.result());
  PLEIAD_TRY(check_left_over(config, checkpoint));

  PLEIAD_TRY(source, embedding_of(config, checkpoint));
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
