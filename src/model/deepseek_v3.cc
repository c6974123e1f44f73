#include "model/deepseek_v3.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "device/scratch.h"
#include "ep/moe_layer.h"
#include "kernels/gemm.h"
#include "kernels/rope.h"
#include "kernels/row_ops.h"
#include "model/deepseek_v3_config.h"
#include "model/dense_mlp.h"
#include "model/mla_layer.h"
#include "model/weight_loader.h"

namespace pleiad::model {
namespace {

struct Layer {
  std::vector<float> input_norm;           // [hidden]
  std::vector<float> post_attention_norm;  // [hidden]
  MlaWeights attention;
  std::optional<DenseMlpWeights> dense;  // exactly one of dense and moe
  std::optional<ep::MoeWeights> moe;
};

MlaShape mla_shape(const DeepseekV3Config& c) {
  return {
      .hidden = c.hidden,
      .heads = c.heads,
      .q_lora = c.q_lora,
      .kv_lora = c.kv_lora,
      .nope = c.nope,
      .rope = c.rope,
      .value = c.value,
      .rms_epsilon = c.rms_epsilon,
      .scale = c.attention_scale,
      .rope_pairs = c.rope_pairs,
  };
}

ep::MoeShape moe_shape(const DeepseekV3Config& c) {
  return {
      .hidden = c.hidden,
      .intermediate = c.moe_intermediate,
      .shared_intermediate = c.shared_experts * c.moe_intermediate,
      .gate = c.gate,
  };
}

ModelShape model_shape(const DeepseekV3Config& c, kernels::Compute compute) {
  ModelShape shape;
  shape.vocabulary = c.vocabulary;
  shape.positions_max = c.positions_max;
  for (std::int64_t i = 0; i < c.layers; ++i)
    shape.moe_layers += c.is_moe(i) ? 1 : 0;
  shape.experts = shape.moe_layers > 0 ? c.gate.experts : 0;
  const bool wide = compute == kernels::Compute::Float32;
  shape.cache = {
      .layers = c.layers,
      .width = c.kv_lora + c.rope,
      .dtype = wide ? device::DType::F32 : device::DType::BF16,
  };
  return shape;
}

// Ops of a step in the order of their scratch's lifetimes: the residual lives through all of them.
enum Op : int { kBegin, kAttention, kMlp, kHead, kEnd };

class DeepseekV3 final : public Model {
 public:
  DeepseekV3(const DeepseekV3Config& config, const LoadOptions& options)
      : config_(config),
        shape_(model_shape(config, options.context.compute)),
        context_(options.context),
        limits_(options.limits),
        frequencies_(kernels::rope_frequencies(config.rope, config.rope_theta, config.rope_scaling)
        ),
        expert_tokens_(static_cast<std::size_t>(shape_.moe_layers * shape_.experts)) {}

  Result<void> load(const weights::Checkpoint& checkpoint, const LoadOptions& options);

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] ModelMemory memory() const override {
    return {
        .weights = weights_.size(),
        .scratch = scratch_.planned_bytes(),
        .scratch_naive = scratch_.naive_bytes(),
    };
  }
  [[nodiscard]] std::span<const std::uint64_t> expert_tokens() const override {
    return expert_tokens_;
  }
  void forward(const Batch& batch, kv::PagedCache& cache) override;

 private:
  void want_layer(WeightLoader& loader, std::int64_t index);
  void want_attention(WeightLoader& loader, const std::string& prefix, MlaWeights& out) const;
  void want_dense(WeightLoader& loader, const std::string& prefix, DenseMlpWeights& out) const;
  void want_moe(WeightLoader& loader, const std::string& prefix, ep::MoeWeights& out) const;
  Result<void> plan_scratch();
  void run_layer(std::size_t index, const Batch& batch, kv::PagedCache& cache);
  void run_head(const Batch& batch);
  void norm(const float* x, std::int64_t rows, const std::vector<float>& weight, float* y) const;

  DeepseekV3Config config_;
  ModelShape shape_;
  kernels::Context context_;
  ForwardLimits limits_;
  std::vector<double> frequencies_;  // [rope / 2]

  kernels::PackedMatrix head_;  // [vocabulary, hidden]
  device::Buffer embedding_memory_;
  device::TensorView embedding_;  // [vocabulary, hidden]
  std::vector<float> final_norm_;
  std::vector<Layer> layers_;
  device::Buffer weights_;

  device::Scratch scratch_;
  device::RegionId residual_;
  device::RegionId x_;
  device::RegionId cos_sin_;
  device::RegionId head_in_;
  std::optional<MlaRunner> attention_;
  std::optional<DenseMlpRunner> dense_;
  std::optional<ep::MoeRunner> moe_;
  std::vector<std::uint64_t> expert_tokens_;  // [moe_layers, experts]
};

Result<void> DeepseekV3::load(const weights::Checkpoint& checkpoint, const LoadOptions& options) {
  WeightLoader loader(checkpoint, context_.compute);
  layers_.resize(static_cast<std::size_t>(config_.layers));
  for (std::int64_t i = 0; i < config_.layers; ++i)
    want_layer(loader, i);
  loader.vector("model.norm.weight", config_.hidden, final_norm_);
  const std::string embedding = "model.embed_tokens.weight";
  const std::string head = config_.tied_embeddings ? embedding : "lm_head.weight";
  loader.matrix({{.name = head, .rows = config_.vocabulary, .columns = config_.hidden}}, head_);
  PLEIAD_TRY(loader.result());

  const device::Shape table{.extents = {config_.vocabulary, config_.hidden}, .rank = 2};
  PLEIAD_TRY(source, checkpoint.tensor(embedding, table));
  PLEIAD_TRY(copy, device::Buffer::allocate(source.bytes.size()));
  std::ranges::copy(source.bytes, copy.data());
  embedding_memory_ = std::move(copy);
  embedding_ = source;
  embedding_.bytes = {embedding_memory_.data(), embedding_memory_.size()};

  PLEIAD_TRY(packed, loader.load(*context_.pool, options.weight_bytes_max, options.progress));
  weights_ = std::move(packed);
  return plan_scratch();
}

void DeepseekV3::want_layer(WeightLoader& loader, std::int64_t index) {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  loader.vector(prefix + "input_layernorm.weight", config_.hidden, layer.input_norm);
  loader.vector(
      prefix + "post_attention_layernorm.weight", config_.hidden, layer.post_attention_norm
  );
  want_attention(loader, prefix + "self_attn.", layer.attention);
  if (config_.is_moe(index)) {
    want_moe(loader, prefix + "mlp.", layer.moe.emplace());
  } else {
    want_dense(loader, prefix + "mlp.", layer.dense.emplace());
  }
}

void DeepseekV3::want_attention(WeightLoader& loader, const std::string& prefix, MlaWeights& out)
    const {
  const DeepseekV3Config& c = config_;
  const std::int64_t query = c.heads * (c.nope + c.rope);
  const MatrixPart kv_a{
      .name = prefix + "kv_a_proj_with_mqa.weight",
      .rows = c.kv_lora + c.rope,
      .columns = c.hidden};
  if (c.q_lora > 0) {
    loader.matrix(
        {{.name = prefix + "q_a_proj.weight", .rows = c.q_lora, .columns = c.hidden}, kv_a},
        out.down
    );
    loader.vector(prefix + "q_a_layernorm.weight", c.q_lora, out.q_norm);
    loader.matrix(
        {{.name = prefix + "q_b_proj.weight", .rows = query, .columns = c.q_lora}}, out.q_up
    );
  } else {
    loader.matrix(
        {{.name = prefix + "q_proj.weight", .rows = query, .columns = c.hidden}, kv_a}, out.down
    );
  }
  loader.vector(prefix + "kv_a_layernorm.weight", c.kv_lora, out.kv_norm);
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
    loader.matrix({part}, out.key_up[static_cast<std::size_t>(h)]);
    part.row_begin = first + c.nope;
    part.row_count = c.value;
    part.transposed = false;
    loader.matrix({part}, out.value_up[static_cast<std::size_t>(h)]);
  }
  loader.matrix(
      {{.name = prefix + "o_proj.weight", .rows = c.hidden, .columns = c.heads * c.value}}, out.out
  );
}

// The two products of a SwiGLU: gate and up stacked, and down.
void want_swiglu(
    WeightLoader& loader,
    const std::string& prefix,
    const DenseMlpRunner::Shape& shape,
    kernels::PackedMatrix& gate_up,
    kernels::PackedMatrix& down
) {
  const std::int64_t width = shape.intermediate;
  loader.matrix(
      {{.name = prefix + "gate_proj.weight", .rows = width, .columns = shape.hidden},
       {.name = prefix + "up_proj.weight", .rows = width, .columns = shape.hidden}},
      gate_up
  );
  loader.matrix(
      {{.name = prefix + "down_proj.weight", .rows = shape.hidden, .columns = width}}, down
  );
}

void DeepseekV3::want_dense(WeightLoader& loader, const std::string& prefix, DenseMlpWeights& out)
    const {
  want_swiglu(loader, prefix, {config_.hidden, config_.intermediate}, out.gate_up, out.down);
}

void DeepseekV3::want_moe(WeightLoader& loader, const std::string& prefix, ep::MoeWeights& out)
    const {
  const std::int64_t experts = config_.gate.experts;
  loader.matrix(
      {{.name = prefix + "gate.weight", .rows = experts, .columns = config_.hidden}},
      kernels::Compute::Float32,
      out.gate
  );
  loader.vector(prefix + "gate.e_score_correction_bias", experts, out.gate_bias);
  out.gate_up.resize(static_cast<std::size_t>(experts));
  out.down.resize(static_cast<std::size_t>(experts));
  for (std::size_t e = 0; e < out.down.size(); ++e) {
    want_swiglu(
        loader,
        prefix + "experts." + std::to_string(e) + ".",
        {config_.hidden, config_.moe_intermediate},
        out.gate_up[e],
        out.down[e]
    );
  }
  if (config_.shared_experts == 0) return;
  want_swiglu(
      loader,
      prefix + "shared_experts.",
      {config_.hidden, config_.moe_intermediate * config_.shared_experts},
      out.shared_gate_up,
      out.shared_down
  );
}

Result<void> DeepseekV3::plan_scratch() {
  device::ArenaPlan plan;
  const std::int64_t rows = limits_.rows_max;
  const auto floats = [](std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(float);
  };
  residual_ = plan.reserve("residual", floats(rows * config_.hidden), kBegin, kEnd);
  x_ = plan.reserve("normalised rows", floats(rows * config_.hidden), kAttention, kMlp);
  cos_sin_ = plan.reserve("cosines and sines", floats(rows * config_.rope), kBegin, kMlp);
  head_in_ =
      plan.reserve("head input", floats(limits_.logit_rows_max * config_.hidden), kHead, kEnd);
  const MlaRunner::Limits limits{
      .rows_max = rows, .context_max = limits_.context_max, .workers = context_.pool->workers()};
  attention_.emplace(mla_shape(config_), limits, plan, kAttention, kAttention);
  dense_.emplace(
      DenseMlpRunner::Shape{config_.hidden, config_.intermediate}, rows, plan, kMlp, kMlp
  );
  moe_.emplace(moe_shape(config_), rows, plan, kMlp, kMlp);
  PLEIAD_TRY(scratch, device::Scratch::allocate(std::move(plan)));
  scratch_ = std::move(scratch);
  return {};
}

void DeepseekV3::norm(const float* x, std::int64_t rows, const std::vector<float>& weight, float* y)
    const {
  kernels::rms_norm(
      context_,
      {.x = x,
       .x_stride = config_.hidden,
       .rows = rows,
       .width = config_.hidden,
       .weight = weight.data(),
       .epsilon = config_.rms_epsilon,
       .y = y,
       .y_stride = config_.hidden}
  );
}

void DeepseekV3::forward(const Batch& batch, kv::PagedCache& cache) {
  const auto rows = static_cast<std::int64_t>(batch.tokens.size());
  PLEIAD_CHECK(rows <= limits_.rows_max);
  PLEIAD_CHECK(batch.positions.size() == batch.tokens.size());
  PLEIAD_CHECK(batch.rows.size() == batch.tokens.size());
  float* residual = scratch_.get<float>(residual_).data();
  kernels::embed_rows(context_, {.table = embedding_, .ids = batch.tokens, .y = residual});
  const auto cos_sin =
      scratch_.get<float>(cos_sin_).first(static_cast<std::size_t>(rows * config_.rope));
  kernels::rope_angles(batch.positions, frequencies_, config_.rope_magnitude, cos_sin);
  for (std::size_t i = 0; i < layers_.size(); ++i)
    run_layer(i, batch, cache);
  run_head(batch);
}

void DeepseekV3::run_layer(std::size_t index, const Batch& batch, kv::PagedCache& cache) {
  const Layer& layer = layers_[index];
  const auto rows = static_cast<std::int64_t>(batch.tokens.size());
  float* residual = scratch_.get<float>(residual_).data();
  float* x = scratch_.get<float>(x_).data();
  norm(residual, rows, layer.input_norm, x);
  attention_->run(
      context_,
      scratch_,
      {.weights = &layer.attention,
       .x = x,
       .rows = batch.rows,
       .cos_sin = scratch_.get<float>(cos_sin_).data(),
       .pages =
           {
               .base = cache.layer(static_cast<std::int64_t>(index)),
               .page_stride = cache.shape().page_bytes(),
               .dtype = cache.shape().dtype,
               .latent = config_.kv_lora,
               .rope = config_.rope,
           },
       .residual = residual}
  );
  norm(residual, rows, layer.post_attention_norm, x);
  if (layer.dense) {
    dense_->run(context_, scratch_, *layer.dense, x, rows, residual);
    return;
  }
  // MoE layers are counted from the first one.
  std::size_t moe_index = 0;
  for (std::size_t i = 0; i < index; ++i)
    moe_index += layers_[i].moe ? 1U : 0U;
  const auto experts = static_cast<std::size_t>(config_.gate.experts);
  moe_->run(
      context_,
      scratch_,
      {.weights = &*layer.moe,
       .x = x,
       .rows = rows,
       .residual = residual,
       .expert_tokens = std::span(expert_tokens_).subspan(moe_index * experts, experts)}
  );
}

void DeepseekV3::run_head(const Batch& batch) {
  const auto wanted = static_cast<std::int64_t>(batch.logit_rows.size());
  PLEIAD_CHECK(wanted <= limits_.logit_rows_max);
  if (wanted == 0) return;
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  const auto residual = scratch_.get<float>(residual_);
  const auto head_in = scratch_.get<float>(head_in_);
  for (std::size_t i = 0; i < batch.logit_rows.size(); ++i) {
    const auto row = static_cast<std::size_t>(batch.logit_rows[i]);
    std::ranges::copy(residual.subspan(row * hidden, hidden), head_in.subspan(i * hidden).begin());
  }
  norm(head_in.data(), wanted, final_norm_, head_in.data());
  kernels::gemm(
      context_,
      {.x = head_in.data(),
       .x_stride = config_.hidden,
       .rows = wanted,
       .weight = &head_,
       .y = batch.logits.data(),
       .y_stride = config_.vocabulary}
  );
}

}  // namespace

Result<ModelShape> deepseek_v3_shape(const Json& config, kernels::Compute compute) {
  PLEIAD_TRY(parsed, parse_deepseek_v3_config(config));
  return model_shape(parsed, compute);
}

Result<std::unique_ptr<Model>> load_deepseek_v3(
    const Json& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  PLEIAD_TRY(parsed, parse_deepseek_v3_config(config));
  auto model = std::make_unique<DeepseekV3>(parsed, options);
  PLEIAD_TRY(model->load(checkpoint, options));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace pleiad::model
