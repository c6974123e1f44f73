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

// Elements of one token in one layer's cache of a tensor part.
std::int64_t cache_line(const DecoderConfig& config, std::int32_t tensor_parts) {
  if (const auto* latent = std::get_if<MlaShape>(&config.attention)) {
    return kernels::latent_pages(latent->kv_lora, latent->rope).line;
  }
  const GqaShape grouped =
      heads_of_part(std::get<GqaShape>(config.attention), {.parts = tensor_parts});
  return kernels::grouped_pages(grouped.kv_heads, grouped.head, grouped.head).line;
}

// Elements of all heads' values.
std::int64_t values_width(const DecoderConfig& config) {
  if (const auto* latent = std::get_if<MlaShape>(&config.attention)) {
    return latent->heads * latent->value;
  }
  return std::get<GqaShape>(config.attention).query();
}

// Attention layers of either kind.
class AttentionRunner {
 public:
  // As the runners' constructors.
  AttentionRunner(
      const DecoderConfig& config,
      const TensorPlace& place,
      const AttentionLimits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  ) {
    if (const auto* latent = std::get_if<MlaShape>(&config.attention)) {
      latent_.emplace(*latent, place, limits, plan, first, last);
    } else {
      grouped_.emplace(std::get<GqaShape>(config.attention), place, limits, plan, first, last);
    }
  }

  Result<void> run(
      const kernels::Context& context,
      device::Scratch& memory,
      TensorExchange& tensor,
      const DecoderWeights::LayerPart& weights,
      const AttentionStep& step
  ) {
    if (latent_) {
      return latent_->run(context, memory, tensor, std::get<MlaWeights>(weights.attention), step);
    }
    return grouped_->run(context, memory, tensor, std::get<GqaWeights>(weights.attention), step);
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
        shape_(shape_of(config, options.context.compute, options.tensor.parts)),
        context_(options.context),
        limits_(options.limits),
        place_(options.tensor),
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
  Result<void> attend(std::size_t layer, const Step& step, const Rows& rows);
  Result<void> run_dense(std::size_t layer, const Rows& rows);
  ep::MoeStep
  moe_step(std::size_t layer, std::int64_t moe_index, const Step& step, const Rows& rows);
  Result<void> finish_experts(const Step& step, int part);
  Result<void> run_head(const Batch& batch);
  [[nodiscard]] const DecoderWeights::LayerPart& part_of_layer(std::size_t layer) const {
    return weights_.layers[layer].parts[static_cast<std::size_t>(place_.part)];
  }
  [[nodiscard]] TensorExchange::Limits exchange_limits() const;
  void norm(const float* x, std::int64_t rows, const std::vector<float>& weight, float* y) const;
  float* line(device::RegionId region, std::int64_t row, std::int64_t width) {
    return scratch_.get<float>(region).data() + row * width;
  }

  DecoderConfig config_;
  const DecoderWeights& weights_;
  ModelShape shape_;
  kernels::Context context_;
  ForwardLimits limits_;
  TensorPlace place_;
  std::vector<double> frequencies_;  // [rope / 2]

  device::Scratch scratch_;
  device::RegionId residual_;
  device::RegionId x_;
  device::RegionId cos_sin_;
  device::RegionId head_in_;
  device::RegionId head_out_;  // of one of several tensor parts
  std::optional<TensorExchange> tensor_;
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
  const std::int64_t tokens =
      place_.parts == 1 ? 0 : part_of(config_.vocabulary, place_.parts, place_.part).count;
  head_out_ = plan.reserve("part of logits", floats(limits_.logit_rows_max * tokens), Head, End);
  // Peers read from its messages whenever they come to it.
  tensor_.emplace(place_, exchange_limits(), plan, Begin, End);
  const AttentionLimits limits{
      .rows_max = rows, .context_max = limits_.context_max, .workers = context_.pool->workers()};
  attention_.emplace(config_, place_, limits, plan, Attention, Attention);
  const DenseMlpRunner::Shape dense{config_.hidden, config_.intermediate};
  dense_.emplace(dense, place_, rows, plan, Mlp, Mlp);
  // Peers write into a rank's buffers while it is in its next attention, and read from them.
  const int first = place.rank.ranks > 1 ? Begin : Mlp;
  const int last = place.rank.ranks > 1 ? End : Mlp;
  const std::int64_t moe_rows =
      overlap ? std::min(rows, std::max((rows + 1) / 2, place.rank.settings.two_batch_tokens_min))
              : (rows + place_.parts - 1) / place_.parts;
  const ep::MoeLimits moe_limits{.rows_max = moe_rows, .compute = context_.compute};
  moe_.emplace(config_.moe, place, moe_limits, plan, first, last);
  PLEIAD_TRY(scratch, device::Scratch::allocate(std::move(plan)));
  scratch_ = std::move(scratch);
  return {};
}

TensorExchange::Limits Decoder::exchange_limits() const {
  const std::int64_t rows = limits_.rows_max;
  const std::int64_t widest =
      std::max({values_width(config_), config_.hidden, config_.intermediate});
  const auto share = [this](std::int64_t whole) {
    return (whole + place_.parts - 1) / place_.parts;
  };
  const std::int64_t largest = std::max(
      {rows * share(widest),
       share(rows) * config_.hidden,
       limits_.logit_rows_max * share(config_.vocabulary)}
  );
  return {
      .gathered_floats = static_cast<std::size_t>(rows * widest),
      .part_floats = static_cast<std::size_t>(largest)};
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
  tensor_->begin_step(batch.group == nullptr ? nullptr : batch.group->group);
  if (batch.group != nullptr && batch.group->two_batches) {
    PLEIAD_CHECK(place_.parts == 1, "tensor parts take one batch at a time");
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
  PLEIAD_TRY(run_head(batch));
  return tensor_->end_step();
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
    PLEIAD_TRY(finish_experts(step, part));
  }
  return {};
}

// Tensor parts have brought a part of the rows each to the experts.
Result<void> Decoder::finish_experts(const Step& step, int part) {
  PLEIAD_TRY(moe_->finish(context_, scratch_, part));
  const Rows& rows = step.parts.at(static_cast<std::size_t>(part));
  if (rows.count == 0) return {};
  float* residual = line(residual_, rows.begin, config_.hidden);
  return tensor_->gather_rows(scratch_, residual, rows.count, config_.hidden);
}

Result<void> Decoder::run_layer(const LayerState& at, const Step& step) {
  for (int part = 0; part < step.part_count; ++part) {
    PLEIAD_TRY(begin_layer(at, step, part));
  }
  // Attention has exchanged its results, so other tensor parts have stored their heads as well.
  if (step.batch.observer != nullptr) {
    step.batch.observer->on_lines(static_cast<std::int64_t>(at.layer));
  }
  for (int part = 0; at.is_moe && part < step.part_count; ++part) {
    PLEIAD_TRY(moe_->serve(context_, scratch_, part));
  }
  return {};
}

Result<void> Decoder::begin_layer(const LayerState& at, const Step& step, int part) {
  if (at.results_due) PLEIAD_TRY(finish_experts(step, part));
  const Rows& rows = step.parts.at(static_cast<std::size_t>(part));
  if (!at.is_moe) {
    if (rows.count == 0) return {};
    PLEIAD_TRY(attend(at.layer, step, rows));
    return run_dense(at.layer, rows);
  }
  // A rank alone has agreed on nothing.
  const ep::GroupStep& group = step.batch.group == nullptr ? alone_ : *step.batch.group;
  const ep::MoeStep moe = moe_step(at.layer, at.moe_index, step, rows);
  moe_->prepare(context_, scratch_, group, part, moe);
  if (rows.count > 0) PLEIAD_TRY(attend(at.layer, step, rows));
  return moe_->begin(context_, scratch_, group, part, moe);
}

// residual += attention(norm(residual)), then x = norm(residual) for what follows.
Result<void> Decoder::attend(std::size_t layer, const Step& step, const Rows& rows) {
  const DecoderWeights::Layer& weights = weights_.layers[layer];
  float* residual = line(residual_, rows.begin, config_.hidden);
  float* x = line(x_, rows.begin, config_.hidden);
  norm(residual, rows.count, weights.input_norm, x);
  PLEIAD_TRY(attention_->run(
      context_,
      scratch_,
      *tensor_,
      part_of_layer(layer),
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
  ));
  norm(residual, rows.count, weights.post_attention_norm, x);
  return {};
}

Result<void> Decoder::run_dense(std::size_t layer, const Rows& rows) {
  return dense_->run(
      context_,
      scratch_,
      *tensor_,
      *part_of_layer(layer).dense,
      line(x_, rows.begin, config_.hidden),
      rows.count,
      line(residual_, rows.begin, config_.hidden)
  );
}

// Tensor parts have the same rows; each brings its part of them.
ep::MoeStep
Decoder::moe_step(std::size_t layer, std::int64_t moe_index, const Step& step, const Rows& all) {
  const PartRange own = part_of(all.count, place_.parts, place_.part);
  const Rows rows{.begin = all.begin + own.begin, .count = own.count};
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

Result<void> Decoder::run_head(const Batch& batch) {
  const auto wanted = static_cast<std::int64_t>(batch.logit_rows.size());
  PLEIAD_CHECK(wanted <= limits_.logit_rows_max);
  if (wanted == 0) return {};
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  const auto residual = scratch_.get<float>(residual_);
  const auto head_in = scratch_.get<float>(head_in_);
  for (std::size_t i = 0; i < batch.logit_rows.size(); ++i) {
    const auto row = static_cast<std::size_t>(batch.logit_rows[i]);
    std::ranges::copy(residual.subspan(row * hidden, hidden), head_in.subspan(i * hidden).begin());
  }
  norm(head_in.data(), wanted, weights_.final_norm, head_in.data());
  const kernels::PackedMatrix& head = weights_.heads[static_cast<std::size_t>(place_.part)];
  const bool alone = place_.parts == 1;
  float* logits = alone ? batch.logits.data() : scratch_.get<float>(head_out_).data();
  kernels::gemm(
      context_,
      {.x = head_in.data(),
       .x_stride = config_.hidden,
       .rows = wanted,
       .weight = &head,
       .y = logits,
       .y_stride = head.outputs()}
  );
  if (alone) return {};
  return tensor_->collect(
      context_,
      scratch_,
      {.own = logits, .rows = wanted, .width = config_.vocabulary, .step = "gather of logits"},
      batch.logits.data()
  );
}

class DecoderCheckpoint final : public ModelWeights {
 public:
  DecoderCheckpoint(
      const DecoderConfig& config,
      const LoadOptions& options,
      std::unique_ptr<DecoderWeights> weights
  )
      : config_(config),
        shape_(shape_of(config, options.compute, options.tensor_parts)),
        weights_(std::move(weights)) {}

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

ModelShape
shape_of(const DecoderConfig& config, kernels::Compute compute, std::int32_t tensor_parts) {
  ModelShape shape;
  shape.vocabulary = config.vocabulary;
  if (const auto* grouped = std::get_if<GqaShape>(&config.attention)) {
    shape.heads = grouped->heads;
    shape.kv_heads = grouped->kv_heads;
  } else {
    shape.heads = std::get<MlaShape>(config.attention).heads;
  }
  PLEIAD_CHECK(shape.heads % tensor_parts == 0, "heads are not cut");
  shape.positions_max = config.positions_max;
  shape.moe_layers = config.moe_layers();
  shape.moe = config.moe;
  if (shape.moe_layers == 0) shape.moe.gate.experts = 0;
  const bool wide = compute == kernels::Compute::Float32;
  shape.cache = {
      .layers = static_cast<std::int64_t>(config.layers.size()),
      .width = cache_line(config, tensor_parts),
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
      std::make_unique<DecoderCheckpoint>(config, options, std::move(weights))
  );
}

}  // namespace pleiad::model
