#include "model/decoder.h"

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
#include "model/decoder_config.h"
#include "model/decoder_weights.h"
#include "model/dense_mlp.h"

namespace pleiad::model {
namespace {

// Elements of one token in one layer's cache.
std::int64_t cache_line(const DecoderConfig& config) {
  if (const auto* latent = std::get_if<MlaShape>(&config.attention)) {
    return kernels::latent_pages(latent->kv_lora, latent->rope).line;
  }
  const auto& grouped = std::get<GqaShape>(config.attention);
  return kernels::grouped_pages(grouped.kv_heads, grouped.head, grouped.head).line;
}

// Attention layers of either kind.
class AttentionRunner {
 public:
  // As the runners' constructors.
  AttentionRunner(
      const DecoderConfig& config,
      const AttentionLimits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  ) {
    if (const auto* latent = std::get_if<MlaShape>(&config.attention)) {
      latent_.emplace(*latent, limits, plan, first, last);
    } else {
      grouped_.emplace(std::get<GqaShape>(config.attention), limits, plan, first, last);
    }
  }

  void run(
      const kernels::Context& context,
      device::Scratch& memory,
      const DecoderWeights::Layer& weights,
      const AttentionStep& step
  ) {
    if (latent_) {
      latent_->run(context, memory, std::get<MlaWeights>(weights.attention), step);
    } else {
      grouped_->run(context, memory, std::get<GqaWeights>(weights.attention), step);
    }
  }

 private:
  std::optional<MlaRunner> latent_;  // one of the two
  std::optional<GqaRunner> grouped_;
};

// Ops of a step in the order of their scratch's lifetimes: the residual lives through all of them.
// Expert layers reach into the next attention, so that results can travel meanwhile.
enum Op : int { Begin, Attention, Mlp, Head, End };

// Rows of a step that go through the layers together.
struct Rows {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

class Decoder final : public Model {
 public:
  Decoder(const DecoderConfig& config, const DecoderWeights& weights, const RankOptions& options)
      : config_(config),
        weights_(weights),
        shape_(shape_of(config, options.context.compute)),
        context_(options.context),
        limits_(options.limits),
        frequencies_(
            kernels::rope_frequencies(config.rope.width, config.rope.theta, config.rope.scaling)
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

  DecoderConfig config_;
  const DecoderWeights& weights_;
  ModelShape shape_;
  kernels::Context context_;
  ForwardLimits limits_;
  std::vector<double> frequencies_;  // [rope / 2]

  device::Scratch scratch_;
  device::RegionId residual_;
  device::RegionId x_;
  device::RegionId cos_sin_;
  device::RegionId head_in_;
  std::optional<AttentionRunner> attention_;
  std::optional<DenseMlpRunner> dense_;
  std::optional<ep::MoeRunner> moe_;
  ep::GroupStep alone_;
  std::vector<std::uint64_t> expert_tokens_;  // [moe_layers, experts]
};

Result<void> Decoder::plan_scratch(const ep::MoePlace& place) {
  device::ArenaPlan plan;
  const std::int64_t rows = limits_.rows_max;
  const auto floats = [](std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(float);
  };
  const bool overlap = place.rank.ranks > 1 && place.rank.settings.two_batch_overlap;
  residual_ = plan.reserve("residual", floats(rows * config_.hidden), Begin, End);
  x_ = plan.reserve("normalised rows", floats(rows * config_.hidden), Attention, Mlp);
  cos_sin_ = plan.reserve("cosines and sines", floats(rows * config_.rope.width), Begin, Mlp);
  head_in_ = plan.reserve("head input", floats(limits_.logit_rows_max * config_.hidden), Head, End);
  const AttentionLimits limits{
      .rows_max = rows, .context_max = limits_.context_max, .workers = context_.pool->workers()};
  attention_.emplace(config_, limits, plan, Attention, Attention);
  dense_.emplace(DenseMlpRunner::Shape{config_.hidden, config_.intermediate}, rows, plan, Mlp, Mlp);
  // Peers write into a rank's buffers while it is in its next attention, and read from them.
  const int first = place.rank.ranks > 1 ? Begin : Mlp;
  const int last = place.rank.ranks > 1 ? End : Mlp;
  const std::int64_t moe_rows =
      overlap ? std::min(rows, std::max((rows + 1) / 2, place.rank.settings.two_batch_tokens_min))
              : rows;
  const ep::MoeLimits moe_limits{.rows_max = moe_rows, .compute = context_.compute};
  moe_.emplace(config_.moe, place, moe_limits, plan, first, last);
  PLEIAD_TRY(scratch, device::Scratch::allocate(std::move(plan)));
  scratch_ = std::move(scratch);
  return {};
}

void Decoder::norm(const float* x, std::int64_t rows, const std::vector<float>& weight, float* y)
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

Result<void> Decoder::forward(const Batch& batch, kv::PagedCache& cache) {
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
        scratch_.get<float>(cos_sin_).first(static_cast<std::size_t>(rows * config_.rope.width));
    kernels::embed_rows(
        context_,
        {.table = weights_.embedding, .ids = batch.tokens, .y = line(residual_, 0, config_.hidden)}
    );
    kernels::rope_angles(batch.positions, frequencies_, config_.rope.magnitude, cos_sin);
  }
  PLEIAD_TRY(run_layers(step));
  run_head(batch);
  return {};
}

// A part's expert layer is finished only when the part's next layer wants its rows, so that its
// results travel while the other part is at work.
Result<void> Decoder::run_layers(const Step& step) {
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

Result<void> Decoder::run_layer(const LayerState& at, const Step& step) {
  for (int part = 0; part < step.part_count; ++part) {
    PLEIAD_TRY(begin_layer(at, step, part));
  }
  for (int part = 0; at.is_moe && part < step.part_count; ++part) {
    PLEIAD_TRY(moe_->serve(context_, scratch_, part));
  }
  return {};
}

Result<void> Decoder::begin_layer(const LayerState& at, const Step& step, int part) {
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
void Decoder::attend(std::size_t layer, const Step& step, const Rows& rows) {
  const DecoderWeights::Layer& weights = weights_.layers[layer];
  float* residual = line(residual_, rows.begin, config_.hidden);
  float* x = line(x_, rows.begin, config_.hidden);
  norm(residual, rows.count, weights.input_norm, x);
  attention_->run(
      context_,
      scratch_,
      weights,
      {.x = x,
       .rows = step.batch.rows.subspan(
           static_cast<std::size_t>(rows.begin), static_cast<std::size_t>(rows.count)
       ),
       .cos_sin = line(cos_sin_, rows.begin, config_.rope.width),
       .cache =
           {.base = step.cache.layer(static_cast<std::int64_t>(layer)),
            .page_stride = step.cache.shape().page_bytes(),
            .dtype = step.cache.shape().dtype},
       .window = config_.layers[layer].window,
       .residual = residual}
  );
  norm(residual, rows.count, weights.post_attention_norm, x);
}

void Decoder::run_dense(std::size_t layer, const Rows& rows) {
  dense_->run(
      context_,
      scratch_,
      *weights_.layers[layer].dense,
      line(x_, rows.begin, config_.hidden),
      rows.count,
      line(residual_, rows.begin, config_.hidden)
  );
}

ep::MoeStep
Decoder::moe_step(std::size_t layer, std::int64_t moe_index, const Step& step, const Rows& rows) {
  const auto experts = static_cast<std::size_t>(config_.moe.gate.experts);
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

void Decoder::run_head(const Batch& batch) {
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

class DecoderCheckpoint final : public ModelWeights {
 public:
  DecoderCheckpoint(
      const DecoderConfig& config,
      Compute compute,
      std::unique_ptr<DecoderWeights> weights
  )
      : config_(config), shape_(shape_of(config, compute)), weights_(std::move(weights)) {}

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] std::size_t bytes() const override {
    return weights_->packed.size() + weights_->embedding_memory.size();
  }
  [[nodiscard]] Result<std::unique_ptr<Model>> make_rank(const RankOptions& options
  ) const override {
    auto rank = std::make_unique<Decoder>(config_, *weights_, options);
    PLEIAD_TRY(rank->plan_scratch(options.place));
    return std::unique_ptr<Model>(std::move(rank));
  }

 private:
  DecoderConfig config_;
  ModelShape shape_;
  std::unique_ptr<DecoderWeights> weights_;
};

}  // namespace

std::int64_t DecoderConfig::moe_layers() const {
  return std::ranges::count_if(layers, [](const DecoderLayer& layer) { return layer.moe; });
}

ModelShape shape_of(const DecoderConfig& config, kernels::Compute compute) {
  ModelShape shape;
  shape.vocabulary = config.vocabulary;
  shape.positions_max = config.positions_max;
  shape.moe_layers = config.moe_layers();
  shape.moe = config.moe;
  if (shape.moe_layers == 0) shape.moe.gate.experts = 0;
  const bool wide = compute == kernels::Compute::Float32;
  shape.cache = {
      .layers = static_cast<std::int64_t>(config.layers.size()),
      .width = cache_line(config),
      .dtype = wide ? device::DType::F32 : device::DType::BF16,
  };
  return shape;
}

Result<std::unique_ptr<ModelWeights>> load_decoder(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  PLEIAD_TRY(weights, load_decoder_weights(config, checkpoint, options));
  return std::unique_ptr<ModelWeights>(
      std::make_unique<DecoderCheckpoint>(config, options.compute, std::move(weights))
  );
}

}  // namespace pleiad::model
