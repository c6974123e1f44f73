#include "model/decoder_weights.h"

#include <algorithm>
#include <array>
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

  [[nodiscard]] bool holds(std::int32_t part) const {
    return !options_.holds_part || options_.holds_part(part);
  }
  [[nodiscard]] PartRange part_of(std::int64_t whole, std::int32_t part) const {
    return model::part_of(whole, options_.tensor_parts, part);
  }
  void layer_part(
      const std::string& prefix,
      bool dense,
      std::int32_t part,
      DecoderWeights::LayerPart& out
  );
  void
  attention(const std::string& prefix, const MlaShape& shape, std::int32_t part, MlaWeights& out);
  void heads_of_latents(
      const std::string& prefix,
      const MlaShape& shape,
      std::int32_t part,
      MlaWeights& out
  );
  void
  attention(const std::string& prefix, const GqaShape& shape, std::int32_t part, GqaWeights& out);
  std::vector<float>
  part_of_vector(const std::string& name, std::int64_t size, const PartRange& range);
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
  // Parts of the outputs of a feed-forward layer's products.
  struct MlpParts {
    std::int64_t width = 0;  // intermediate elements of all parts
    PartRange products;      // of width
    PartRange outputs;       // of hidden
  };
  void swiglu(
      const std::string& prefix,
      const MlpParts& parts,
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
  const bool moe_layer = config_.layers[static_cast<std::size_t>(index)].moe;
  out.parts.resize(static_cast<std::size_t>(options_.tensor_parts));
  for (std::int32_t part = 0; part < options_.tensor_parts; ++part) {
    if (!holds(part)) continue;
    layer_part(prefix, !moe_layer, part, out.parts[static_cast<std::size_t>(part)]);
  }
  if (moe_layer) moe(join(prefix, config_.names.moe), moe_index, out.moe.emplace());
}

void Wishes::layer_part(
    const std::string& prefix,
    bool dense,
    std::int32_t part,
    DecoderWeights::LayerPart& out
) {
  const std::string attention_prefix = prefix + "self_attn.";
  if (const auto* latent = std::get_if<MlaShape>(&config_.attention)) {
    attention(attention_prefix, *latent, part, out.attention.emplace<MlaWeights>());
  } else {
    const auto& grouped = std::get<GqaShape>(config_.attention);
    attention(attention_prefix, grouped, part, out.attention.emplace<GqaWeights>());
  }
  if (!dense) return;
  DenseMlpWeights& mlp = out.dense.emplace();
  swiglu(
      prefix + "mlp.",
      {.width = config_.intermediate,
       .products = part_of(config_.intermediate, part),
       .outputs = part_of(config_.hidden, part)},
      mlp.gate_up,
      mlp.down
  );
}

void Wishes::attention(
    const std::string& prefix,
    const MlaShape& shape,
    std::int32_t part,
    MlaWeights& out
) {
  const std::int64_t head = shape.nope + shape.rope;
  const PartRange heads = part_of(shape.heads, part);
  const PartRange hidden = part_of(shape.hidden, part);
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
        {{.name = prefix + "q_b_proj.weight",
          .rows = shape.query(),
          .columns = shape.q_lora,
          .row_begin = heads.begin * head,
          .row_count = heads.count * head}},
        out.q_up
    );
  } else {
    matrix(
        {{.name = prefix + "q_proj.weight",
          .rows = shape.query(),
          .columns = shape.hidden,
          .row_begin = heads.begin * head,
          .row_count = heads.count * head},
         kv_a},
        out.down
    );
  }
  loader_.vector(prefix + "kv_a_layernorm.weight", shape.kv_lora, out.kv_norm);
  heads_of_latents(prefix, shape, part, out);
  matrix(
      {{.name = prefix + "o_proj.weight",
        .rows = shape.hidden,
        .columns = shape.heads * shape.value,
        .row_begin = hidden.begin,
        .row_count = hidden.count}},
      out.out
  );
}

// Each head's rows of kv_b: first W_UK [nope, kv_lora], then W_UV [value, kv_lora].
void Wishes::heads_of_latents(
    const std::string& prefix,
    const MlaShape& shape,
    std::int32_t part,
    MlaWeights& out
) {
  const PartRange heads = part_of(shape.heads, part);
  out.key_up.resize(static_cast<std::size_t>(heads.count));
  out.value_up.resize(static_cast<std::size_t>(heads.count));
  for (std::int64_t h = 0; h < heads.count; ++h) {
    const std::int64_t first = (heads.begin + h) * (shape.nope + shape.value);
    MatrixPart rows{
        .name = prefix + "kv_b_proj.weight",
        .rows = shape.heads * (shape.nope + shape.value),
        .columns = shape.kv_lora,
        .row_begin = first,
        .row_count = shape.nope,
        .transposed = true,
    };
    matrix({rows}, out.key_up[static_cast<std::size_t>(h)]);
    rows.row_begin = first + shape.nope;
    rows.row_count = shape.value;
    rows.transposed = false;
    matrix({rows}, out.value_up[static_cast<std::size_t>(h)]);
  }
}

void Wishes::attention(
    const std::string& prefix,
    const GqaShape& shape,
    std::int32_t part,
    GqaWeights& out
) {
  const TensorPlace place{.parts = options_.tensor_parts, .part = part};
  const PartRange heads = part_of(shape.heads, part);
  const PartRange hidden = part_of(shape.hidden, part);
  const PartRange kv_heads{first_kv_head(shape, place), heads_of_part(shape, place).kv_heads};
  struct Projection {
    const char* name;
    std::int64_t heads;  // of all parts
    PartRange own;
  };
  const std::array projections = {
      Projection{"q", shape.heads, heads},
      Projection{"k", shape.kv_heads, kv_heads},
      Projection{"v", shape.kv_heads, kv_heads}};
  std::vector<MatrixPart> stacked;
  for (const Projection& projection : projections) {
    const std::string name = join(prefix, projection.name);
    stacked.push_back(
        {.name = name + "_proj.weight",
         .rows = projection.heads * shape.head,
         .columns = shape.hidden,
         .row_begin = projection.own.begin * shape.head,
         .row_count = projection.own.count * shape.head}
    );
    if (!shape.qkv_bias) continue;
    const std::vector<float> bias = part_of_vector(
        name + "_proj.bias",
        projection.heads * shape.head,
        {projection.own.begin * shape.head, projection.own.count * shape.head}
    );
    out.qkv_bias.insert(out.qkv_bias.end(), bias.begin(), bias.end());
  }
  matrix(stacked, out.qkv);
  if (shape.qk_norm) {
    loader_.vector(prefix + "q_norm.weight", shape.head, out.q_norm);
    loader_.vector(prefix + "k_norm.weight", shape.head, out.k_norm);
  }
  if (shape.sinks) out.sinks = part_of_vector(prefix + "sinks", shape.heads, heads);
  matrix(
      {{.name = prefix + "o_proj.weight",
        .rows = shape.hidden,
        .columns = shape.query(),
        .row_begin = hidden.begin,
        .row_count = hidden.count}},
      out.out
  );
  if (shape.out_bias) {
    out.out_bias = part_of_vector(prefix + "o_proj.bias", shape.hidden, hidden);
  }
}

std::vector<float>
Wishes::part_of_vector(const std::string& name, std::int64_t size, const PartRange& range) {
  std::vector<float> whole;
  loader_.vector(name, size, whole);
  if (whole.empty()) return {};  // the loader remembers why
  const auto begin = whole.begin() + range.begin;
  return {begin, begin + range.count};
}

// Gate and up stacked, and down.
void Wishes::swiglu(
    const std::string& prefix,
    const MlpParts& parts,
    kernels::PackedMatrix& gate_up,
    kernels::PackedMatrix& down
) {
  const std::int64_t hidden = config_.hidden;
  MatrixPart gate{
      .name = prefix + "gate_proj.weight",
      .rows = parts.width,
      .columns = hidden,
      .row_begin = parts.products.begin,
      .row_count = parts.products.count};
  MatrixPart up = gate;
  up.name = prefix + "up_proj.weight";
  matrix({gate, up}, gate_up);
  matrix(
      {{.name = prefix + "down_proj.weight",
        .rows = hidden,
        .columns = parts.width,
        .row_begin = parts.outputs.begin,
        .row_count = parts.outputs.count}},
      down
  );
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
      {.width = config_.moe.shared_intermediate,
       .products = {0, config_.moe.shared_intermediate},
       .outputs = {0, config_.hidden}},
      out.shared_gate_up,
      out.shared_down
  );
}

void Wishes::head(DecoderWeights& out) {
  loader_.vector("model.norm.weight", config_.hidden, out.final_norm);
  const char* head = config_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  out.heads.resize(static_cast<std::size_t>(options_.tensor_parts));
  for (std::int32_t part = 0; part < options_.tensor_parts; ++part) {
    if (!holds(part)) continue;
    const PartRange tokens = part_of(config_.vocabulary, part);
    matrix(
        {{.name = head,
          .rows = config_.vocabulary,
          .columns = config_.hidden,
          .row_begin = tokens.begin,
          .row_count = tokens.count}},
        out.heads[static_cast<std::size_t>(part)]
    );
  }
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

std::vector<TensorWish> tensor_wishes(const DecoderConfig& config) {
  const weights::Checkpoint none;
  WeightLoader loader(none, WeightLoader::NamesOnly{});
  DecoderWeights out;
  wish_for_all(config, {}, loader, out);
  std::vector<TensorWish> wishes = loader.wishes();
  wishes.push_back(
      {.name = "model.embed_tokens.weight",
       .shape = {.extents = {config.vocabulary, config.hidden}, .rank = 2},
       .is_matrix = true,
       .inputs = config.hidden}
  );
  // A tied head asks for the embedding too.
  std::ranges::stable_sort(wishes, {}, &TensorWish::name);
  const auto same = [](const TensorWish& a, const TensorWish& b) { return a.name == b.name; };
  wishes.erase(std::unique(wishes.begin(), wishes.end(), same), wishes.end());
  return wishes;
}

std::vector<std::string> tensor_names(const DecoderConfig& config) {
  std::vector<std::string> names;
  for (TensorWish& wish : tensor_wishes(config)) {
    names.push_back(std::move(wish.name));
  }
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

Result<std::unique_ptr<PlannedWeights>> plan_decoder_weights(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  auto out = std::make_unique<PlannedWeights>();
  WeightLoader loader(checkpoint, options.compute, config.quantization);
  wish_for_all(config, options, loader, out->weights);
  PLEIAD_TRY(loader.result());
  PLEIAD_TRY(check_left_over(config, checkpoint));
  PLEIAD_TRY(embedding, embedding_of(config, checkpoint));
  out->weights.embedding = embedding;
  PLEIAD_TRY(origins, loader.plan());
  out->origins = std::move(origins);
  return out;
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
