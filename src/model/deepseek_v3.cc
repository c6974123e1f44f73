#include "model/deepseek_v3.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "device/scratch.h"
#include "kernels/gemm.h"
#include "kernels/rope.h"
#include "kernels/row_ops.h"
#include "model/deepseek_v3_config.h"
#include "model/deepseek_v3_weights.h"
#include "model/dense_mlp.h"
#include "model/mla_layer.h"

namespace pleiad::model {
namespace {

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
  for (std::int64_t i = 0; i < c.layers; ++i) {
    shape.moe_layers += c.is_moe(i) ? 1 : 0;
  }
  shape.moe = moe_shape(c);
  if (shape.moe_layers == 0) shape.moe.gate.experts = 0;
  const bool wide = compute == kernels::Compute::Float32;
  shape.cache = {
      .layers = c.layers,
      .width = c.kv_lora + c.rope,
      .dtype = wide ? device::DType::F32 : device::DType::BF16,
  };
  return shape;
}

// Ops of a step in the order of their scratch's lifetimes: the residual lives through all of them.
// Expert layers reach into the next attention, so that results can travel meanwhile.
enum Op : int { Begin, Attention, Mlp, Head, End };

// Rows of a step that go through the layers together.
struct Rows {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

class DeepseekV3 final : public Model {
 public:
  DeepseekV3(
      const DeepseekV3Config& config,
      const DeepseekV3Weights& weights,
      const RankOptions& options
  )
      : config_(config),
        weights_(weights),
        shape_(model_shape(config, options.context.compute)),
        context_(options.context),
        limits_(options.limits),
        frequencies_(kernels::rope_frequencies(config.rope, config.rope_theta, config.rope_scaling)
        ),
        expert_tokens_(static_cast<std::size_t>(shape_.moe_layers * shape_.moe.gate.experts)) {}

  Result<void> plan_scratch(const ep::MoePlace& place);

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] ScratchBytes scratch() const override {
    return {.planned = scratch_.planned_bytes(), .naive = scratch_.naive_bytes()};
  }
  [[nodiscard]] std::span<const std::uint64_t> expert_tokens() const override {
    return expert_tokens_;
  }
  Result<void> forward(const Batch& batch, kv::PagedCache& cache) override;

 private:
  // A step under way: what every layer reads.
  struct Step {
    const Batch& batch;
    kv::PagedCache& cache;
    std::array<Rows, 2> parts;  // of two-batch overlap; else the second is not used
    int part_count = 1;
  };

  // Where a step stands.
  struct LayerState {
    std::size_t layer = 0;
    std::int64_t moe_index = 0;  // of the layer, or the next one with experts
    bool is_moe = false;
    bool results_due = false;  // of the layer before
  };

  Result<void> run_layers(const Step& step);
  Result<void> run_layer(const LayerState& at, const Step& step);
  Result<void> begin_layer(const LayerState& at, const Step& step, int part);
  void attend(std::size_t layer, const Step& step, const Rows& rows);
  void run_dense(std::size_t layer, const Rows& rows);
  ep::MoeStep
  moe_step(std::size_t layer, std::int64_t moe_index, const Step& step, const Rows& rows);
  void run_head(const Batch& batch);
  void norm(const float* x, std::int64_t rows, const std::vector<float>& weight, float* y) const;
  float* line(device::RegionId region, std::int64_t row, std::int64_t width) {
    return scratch_.get<float>(region).data() + row * width;
  }

  DeepseekV3Config config_;
  const DeepseekV3Weights& weights_;
  ModelShape shape_;
  kernels::Context context_;
  ForwardLimits limits_;
  std::vector<double> frequencies_;  // [rope / 2]

  device::Scratch scratch_;
  device::RegionId residual_;
  device::RegionId x_;
  device::RegionId cos_sin_;
  device::RegionId head_in_;
  std::optional<MlaRunner> attention_;
  std::optional<DenseMlpRunner> dense_;
  std::optional<ep::MoeRunner> moe_;
  ep::GroupStep alone_;
  std::vector<std::uint64_t> expert_tokens_;  // [moe_layers, experts]
};

Result<void> DeepseekV3::plan_scratch(const ep::MoePlace& place) {
  device::ArenaPlan plan;
  const std::int64_t rows = limits_.rows_max;
  const auto floats = [](std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(float);
  };
  const bool overlap = place.rank.ranks > 1 && place.rank.settings.two_batch_overlap;
  residual_ = plan.reserve("residual", floats(rows * config_.hidden), Begin, End);
  x_ = plan.reserve("normalised rows", floats(rows * config_.hidden), Attention, Mlp);
  cos_sin_ = plan.reserve("cosines and sines", floats(rows * config_.rope), Begin, Mlp);
  head_in_ = plan.reserve("head input", floats(limits_.logit_rows_max * config_.hidden), Head, End);
  const MlaRunner::Limits limits{
      .rows_max = rows, .context_max = limits_.context_max, .workers = context_.pool->workers()};
  attention_.emplace(mla_shape(config_), limits, plan, Attention, Attention);
  dense_.emplace(DenseMlpRunner::Shape{config_.hidden, config_.intermediate}, rows, plan, Mlp, Mlp);
  // Peers write into a rank's buffers while it is in its next attention, and read from them.
  const int first = place.rank.ranks > 1 ? Begin : Mlp;
  const int last = place.rank.ranks > 1 ? End : Mlp;
  const std::int64_t moe_rows =
      overlap ? std::min(rows, std::max((rows + 1) / 2, place.rank.settings.two_batch_tokens_min))
              : rows;
  const ep::MoeLimits moe_limits{.rows_max = moe_rows, .compute = context_.compute};
  moe_.emplace(moe_shape(config_), place, moe_limits, plan, first, last);
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

Result<void> DeepseekV3::forward(const Batch& batch, kv::PagedCache& cache) {
  const auto rows = static_cast<std::int64_t>(batch.tokens.size());
  PLEIAD_CHECK(rows <= limits_.rows_max);
  PLEIAD_CHECK(batch.positions.size() == batch.tokens.size());
  PLEIAD_CHECK(batch.rows.size() == batch.tokens.size());
  Step step{.batch = batch, .cache = cache, .parts = {Rows{0, rows}, Rows{rows, 0}}};
  if (batch.group != nullptr && batch.group->two_batches) {
    const std::int64_t half = ep::rows_of_batch(*batch.group, rows, 0);
    step.parts = {Rows{0, half}, Rows{half, rows - half}};
    step.part_count = 2;
  }
  if (rows > 0) {
    const auto cos_sin =
        scratch_.get<float>(cos_sin_).first(static_cast<std::size_t>(rows * config_.rope));
    kernels::embed_rows(
        context_,
        {.table = weights_.embedding, .ids = batch.tokens, .y = line(residual_, 0, config_.hidden)}
    );
    kernels::rope_angles(batch.positions, frequencies_, config_.rope_magnitude, cos_sin);
  }
  PLEIAD_TRY(run_layers(step));
  run_head(batch);
  return {};
}

// A part's expert layer is finished only when the part's next layer wants its rows, so that its
// results travel while the other part is at work.
Result<void> DeepseekV3::run_layers(const Step& step) {
  LayerState at;
  for (; at.layer < weights_.layers.size(); ++at.layer) {
    at.is_moe = weights_.layers[at.layer].moe.has_value();
    PLEIAD_TRY(run_layer(at, step));
    at.results_due = at.is_moe;
    at.moe_index += at.is_moe ? 1 : 0;
  }
  for (int part = 0; at.results_due && part < step.part_count; ++part) {
    PLEIAD_TRY(moe_->finish(context_, scratch_, part));
  }
  return {};
}

Result<void> DeepseekV3::run_layer(const LayerState& at, const Step& step) {
  for (int part = 0; part < step.part_count; ++part) {
    PLEIAD_TRY(begin_layer(at, step, part));
  }
  for (int part = 0; at.is_moe && part < step.part_count; ++part) {
    PLEIAD_TRY(moe_->serve(context_, scratch_, part));
  }
  return {};
}

Result<void> DeepseekV3::begin_layer(const LayerState& at, const Step& step, int part) {
  if (at.results_due) PLEIAD_TRY(moe_->finish(context_, scratch_, part));
  const Rows& rows = step.parts.at(static_cast<std::size_t>(part));
  if (!at.is_moe) {
    if (rows.count == 0) return {};
    attend(at.layer, step, rows);
    run_dense(at.layer, rows);
    return {};
  }
  // A rank alone has agreed on nothing.
  const ep::GroupStep& group = step.batch.group == nullptr ? alone_ : *step.batch.group;
  const ep::MoeStep moe = moe_step(at.layer, at.moe_index, step, rows);
  moe_->prepare(context_, scratch_, group, part, moe);
  if (rows.count > 0) attend(at.layer, step, rows);
  return moe_->begin(context_, scratch_, group, part, moe);
}

// residual += attention(norm(residual)), then x = norm(residual) for what follows.
void DeepseekV3::attend(std::size_t layer, const Step& step, const Rows& rows) {
  const DeepseekV3Weights::Layer& weights = weights_.layers[layer];
  float* residual = line(residual_, rows.begin, config_.hidden);
  float* x = line(x_, rows.begin, config_.hidden);
  norm(residual, rows.count, weights.input_norm, x);
  attention_->run(
      context_,
      scratch_,
      {.weights = &weights.attention,
       .x = x,
       .rows = step.batch.rows.subspan(
           static_cast<std::size_t>(rows.begin), static_cast<std::size_t>(rows.count)
       ),
       .cos_sin = line(cos_sin_, rows.begin, config_.rope),
       .pages =
           {
               .base = step.cache.layer(static_cast<std::int64_t>(layer)),
               .page_stride = step.cache.shape().page_bytes(),
               .dtype = step.cache.shape().dtype,
               .latent = config_.kv_lora,
               .rope = config_.rope,
           },
       .residual = residual}
  );
  norm(residual, rows.count, weights.post_attention_norm, x);
}

void DeepseekV3::run_dense(std::size_t layer, const Rows& rows) {
  dense_->run(
      context_,
      scratch_,
      *weights_.layers[layer].dense,
      line(x_, rows.begin, config_.hidden),
      rows.count,
      line(residual_, rows.begin, config_.hidden)
  );
}

ep::MoeStep DeepseekV3::moe_step(
    std::size_t layer,
    std::int64_t moe_index,
    const Step& step,
    const Rows& rows
) {
  const auto experts = static_cast<std::size_t>(config_.gate.experts);
  return {
      .weights = &*weights_.layers[layer].moe,
      .layer = moe_index,
      .x = line(x_, rows.begin, config_.hidden),
      .rows = rows.count,
      .residual = line(residual_, rows.begin, config_.hidden),
      .tokens = step.batch.tokens.subspan(
          static_cast<std::size_t>(rows.begin), static_cast<std::size_t>(rows.count)
      ),
      .expert_tokens =
          std::span(expert_tokens_).subspan(static_cast<std::size_t>(moe_index) * experts, experts),
  };
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
  norm(head_in.data(), wanted, weights_.final_norm, head_in.data());
  kernels::gemm(
      context_,
      {.x = head_in.data(),
       .x_stride = config_.hidden,
       .rows = wanted,
       .weight = &weights_.head,
       .y = batch.logits.data(),
       .y_stride = config_.vocabulary}
  );
}

class DeepseekV3Checkpoint final : public ModelWeights {
 public:
  DeepseekV3Checkpoint(
      const DeepseekV3Config& config,
      Compute compute,
      std::unique_ptr<DeepseekV3Weights> weights
  )
      : config_(config), shape_(model_shape(config, compute)), weights_(std::move(weights)) {}

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] std::size_t bytes() const override {
    return weights_->packed.size() + weights_->embedding_memory.size();
  }
  [[nodiscard]] Result<std::unique_ptr<Model>> make_rank(const RankOptions& options
  ) const override {
    auto rank = std::make_unique<DeepseekV3>(config_, *weights_, options);
    PLEIAD_TRY(rank->plan_scratch(options.place));
    return std::unique_ptr<Model>(std::move(rank));
  }

 private:
  DeepseekV3Config config_;
  ModelShape shape_;
  std::unique_ptr<DeepseekV3Weights> weights_;
};

}  // namespace

Result<ModelShape> deepseek_v3_shape(const Json& config, kernels::Compute compute) {
  PLEIAD_TRY(parsed, parse_deepseek_v3_config(config));
  return model_shape(parsed, compute);
}

Result<std::unique_ptr<ModelWeights>> load_deepseek_v3(
    const Json& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  PLEIAD_TRY(parsed, parse_deepseek_v3_config(config));
  PLEIAD_TRY(weights, load_deepseek_v3_weights(parsed, checkpoint, options));
  return std::unique_ptr<ModelWeights>(
      std::make_unique<DeepseekV3Checkpoint>(parsed, options.compute, std::move(weights))
  );
}

}  // namespace pleiad::model
