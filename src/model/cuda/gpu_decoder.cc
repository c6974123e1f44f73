#include "model/cuda/gpu_decoder.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/cuda_error.h"
#include "device/cuda/device_scratch.h"
#include "device/cuda/gpus.h"
#include "device/cuda/graph.h"
#include "kernels/rope.h"
#include "model/cuda/draw_rows.h"
#include "model/cuda/gpu_attention.h"
#include "model/cuda/gpu_mlp.h"
#include "model/cuda/step_rows.h"
#include "model/decoder.h"
#include "model/dummy_checkpoint.h"

namespace pleiad::model::cuda {
namespace {

using device::DType;
using device::cuda::DeviceBuffer;
using device::cuda::DeviceScratch;
using device::cuda::Graph;
using device::cuda::Stream;

// Steps of up to so many rows are recorded, and their attention is spread over the GPU.
constexpr std::int64_t kRecordedRowsMax = 128;
// Threads that read a checkpoint; more than saturate PCI Express are of no use.
constexpr int kReadersMax = 8;

// Attention layers of either kind.
class GpuAttentionRunner {
 public:
  GpuAttentionRunner(
      const DecoderConfig& config,
      const GpuLimits& limits,
      DType activation,
      device::ArenaPlan& plan
  ) {
    if (const auto* latent = std::get_if<MlaShape>(&config.attention)) {
      latent_.emplace(*latent, limits, activation, plan);
    } else {
      grouped_.emplace(std::get<GqaShape>(config.attention), limits, activation, plan);
    }
  }

  Result<void> prepare(Products& products, const GpuWeights::Layer& layer) const {
    if (latent_) return latent_->prepare(products, std::get<GpuMla>(layer.attention));
    return grouped_->prepare(products, std::get<GpuGqa>(layer.attention));
  }

  // Enqueues what a step's layers share.
  void begin(
      const GpuContext& context,
      const DeviceScratch& memory,
      std::int64_t rows,
      const kernels::cuda::RowPlaces& places
  ) const {
    if (latent_) {
      latent_->begin(context, memory, rows, places);
    } else {
      grouped_->begin(context, memory, rows, places);
    }
  }
  void run(
      const GpuContext& context,
      const DeviceScratch& memory,
      const GpuWeights::Layer& layer,
      const GpuAttentionStep& step
  ) const {
    if (latent_) {
      latent_->run(context, memory, std::get<GpuMla>(layer.attention), step);
    } else {
      grouped_->run(context, memory, std::get<GpuGqa>(layer.attention), step);
    }
  }

 private:
  std::optional<GpuMlaRunner> latent_;  // one of the two
  std::optional<GpuGqaRunner> grouped_;
};

// A cache's memory on the GPU.
class GpuCacheMemory final : public kv::CacheMemory {
 public:
  explicit GpuCacheMemory(DeviceBuffer memory) : memory_(std::move(memory)) {}
  [[nodiscard]] std::byte* data() override { return memory_.data(); }

 private:
  DeviceBuffer memory_;
};

class GpuDecoder final : public Model {
 public:
  GpuDecoder(
      const DecoderConfig& config,
      const GpuWeights& weights,
      const RankOptions& options,
      Stream stream,
      Products products
  )
      : config_(config),
        weights_(weights),
        shape_(shape_of(config, options.context.compute, 1)),
        activation_(shape_.cache.dtype),
        rows_max_(options.limits.rows_max),
        logit_rows_max_(std::max(options.limits.logit_rows_max, kRecordedRowsMax)),
        recorded_rows_max_(std::min(kRecordedRowsMax, std::max<std::int64_t>(rows_max_, 1))),
        stream_(std::move(stream)),
        products_(std::move(products)),
        expert_tokens_(static_cast<std::size_t>(shape_.moe_layers * shape_.moe.gate.experts)) {}

  // Takes all memory and makes every product's plans.
  Result<void> prepare(const RankOptions& options);

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] ScratchBytes scratch() const override {
    return {.planned = scratch_.planned_bytes(), .naive = scratch_.naive_bytes()};
  }
  [[nodiscard]] std::span<const std::uint64_t> expert_tokens() const override {
    return expert_tokens_;
  }
  Result<void> forward(const Batch& batch, kv::PagedCache& cache) override;
  [[nodiscard]] bool draws() const override { return true; }
  Result<void> record(kv::PagedCache& cache) override;

 private:
  // A step as it is enqueued.
  struct Step {
    std::int64_t rows = 0;
    std::int64_t logit_rows = 0;
    std::byte* cache = nullptr;  // of the first layer
    std::size_t layer_stride = 0;
    std::size_t page_stride = 0;
  };

  Result<void> plan_scratch(const RankOptions& options);
  Result<void> prepare_products();
  Result<void> make_angles(device::ThreadPool& pool, std::int64_t positions);
  static Step step_of(kv::PagedCache& cache, std::int64_t rows, std::int64_t logit_rows);
  Result<void> run(const Step& step);
  Result<const Graph*> graph_of(const Step& step);
  Result<void> run_recorded(const Step& step);
  void enqueue(const Step& step);
  void enqueue_layer(std::size_t layer, std::int64_t moe_index, const Step& step);
  void enqueue_head(const Step& step);
  void copy_logits(const Batch& batch, std::int64_t row);
  Result<void> finish_draws(const Batch& batch);
  void norm(const Step& step, const float* weight, bool adds);
  [[nodiscard]] DeviceRows rows(device::RegionId region, std::int64_t width, DType dtype) const {
    return rows_at(scratch_, region, width, dtype);
  }
  [[nodiscard]] DeviceRows x() const { return rows(x_, config_.hidden, activation_); }
  [[nodiscard]] DeviceRows delta() const { return rows(delta_, config_.hidden, activation_); }
  [[nodiscard]] DeviceRows residual() const { return rows(residual_, config_.hidden, DType::F32); }

  DecoderConfig config_;
  const GpuWeights& weights_;
  ModelShape shape_;
  DType activation_;
  std::int64_t rows_max_;
  std::int64_t logit_rows_max_;
  std::int64_t recorded_rows_max_;
  Stream stream_;
  Products products_;

  DeviceScratch scratch_;
  device::RegionId residual_;
  device::RegionId x_;
  device::RegionId delta_;
  device::RegionId head_in_;
  device::RegionId logits_;
  std::optional<GpuAttentionRunner> attention_;
  std::optional<GpuMlpRunner> dense_;
  std::optional<GpuMoeRunner> moe_;
  std::optional<StepRows> step_rows_;
  std::optional<DrawRows> draw_rows_;
  DeviceBuffer angles_;          // [positions, 2, rope / 2]
  DeviceBuffer counted_tokens_;  // [moe_layers, experts] of expert_tokens_
  std::vector<std::uint64_t> expert_tokens_;
  std::map<std::int64_t, Graph> graphs_;  // by rows
  std::byte* recorded_cache_ = nullptr;   // the cache that the graphs work on
};

Result<void> GpuDecoder::prepare(const RankOptions& options) {
  const std::size_t counts = expert_tokens_.size() * sizeof(std::uint64_t);
  PLEIAD_TRY(plan_scratch(options));
  if (moe_) moe_->clear(stream_, scratch_);
  PLEIAD_TRY(counted, DeviceBuffer::allocate(counts, "counts of experts"));
  counted_tokens_ = std::move(counted);
  if (counts > 0) stream_.fill(counted_tokens_.data(), 0, counts);
  PLEIAD_TRY(
      step_rows,
      StepRows::create(
          {.rows_max = rows_max_,
           .logit_rows_max = logit_rows_max_,
           .context_max = options.limits.context_max}
      )
  );
  step_rows_.emplace(std::move(step_rows));
  PLEIAD_TRY(draw_rows, DrawRows::create(logit_rows_max_, config_.vocabulary));
  draw_rows_.emplace(std::move(draw_rows));
  PLEIAD_TRY(make_angles(*options.context.pool, options.limits.context_max));
  PLEIAD_TRY(prepare_products());
  return stream_.wait("preparing a rank");
}

Result<void> GpuDecoder::plan_scratch(const RankOptions& options) {
  device::ArenaPlan plan;
  const std::int64_t rows_filled = kernels::cuda::dense_row_bucket(rows_max_);
  const GpuLimits limits{.rows_max = rows_filled, .split_rows_max = recorded_rows_max_};
  const GpuLimits logit_limits{
      .rows_max = kernels::cuda::dense_row_bucket(logit_rows_max_), .split_rows_max = 0};
  residual_ = reserve_rows(plan, "residual", limits, config_.hidden, DType::F32);
  x_ = reserve_rows(plan, "normalised rows", limits, config_.hidden, activation_);
  delta_ = reserve_rows(plan, "layer out", limits, config_.hidden, activation_);
  head_in_ = reserve_rows(plan, "head input", logit_limits, config_.hidden, activation_);
  logits_ = reserve_rows(plan, "logits", logit_limits, config_.vocabulary, DType::F32);
  attention_.emplace(config_, limits, activation_, plan);
  dense_.emplace(config_.hidden, config_.intermediate, limits, activation_, plan);
  if (shape_.moe_layers > 0) moe_.emplace(config_.moe, limits, activation_, plan);
  PLEIAD_TRY(
      scratch,
      DeviceScratch::allocate(
          std::move(plan),
          fmt::format("steps of {} rows", options.limits.rows_max),
          "a lower --max-num-batched-tokens needs less"
      )
  );
  scratch_ = std::move(scratch);
  return {};
}

Result<void> GpuDecoder::prepare_products() {
  for (const GpuWeights::Layer& layer : weights_.layers) {
    PLEIAD_TRY(attention_->prepare(products_, layer));
    if (layer.dense) PLEIAD_TRY(dense_->prepare(products_, *layer.dense, activation_));
    if (layer.moe) PLEIAD_TRY(moe_->prepare(products_, *layer.moe));
  }
  return products_.prepare(
      weights_.head,
      nullptr,
      {.x_stride = config_.hidden,
       .y_stride = config_.vocabulary,
       .y_dtype = DType::F32,
       .rows_max = logit_rows_max_}
  );
}

// Cosines and sines of all positions, by the host's own arithmetic.
Result<void> GpuDecoder::make_angles(device::ThreadPool& pool, std::int64_t positions) {
  const auto frequencies =
      kernels::rope_frequencies(config_.rope.width, config_.rope.theta, config_.rope.scaling);
  const auto width = static_cast<std::size_t>(config_.rope.width);
  const auto count = static_cast<std::size_t>(positions);
  std::vector<float> angles(count * width);
  constexpr std::size_t kPart = 1024;
  pool.parallel_for((count + kPart - 1) / kPart, [&](std::size_t part) {
    const std::size_t first = part * kPart;
    std::vector<std::int64_t> some(std::min(kPart, count - first));
    std::iota(some.begin(), some.end(), static_cast<std::int64_t>(first));
    kernels::rope_angles(
        some,
        frequencies,
        config_.rope.magnitude,
        std::span(angles).subspan(first * width, some.size() * width)
    );
  });
  const std::size_t bytes = angles.size() * sizeof(float);
  PLEIAD_TRY(
      memory,
      DeviceBuffer::allocate(bytes, "angles of positions", "a lower --max-model-len needs less")
  );
  angles_ = std::move(memory);
  stream_.copy_to_device(angles_.data(), angles.data(), bytes);
  return stream_.wait("copying angles to the GPU");
}

Result<void> GpuDecoder::forward(const Batch& batch, kv::PagedCache& cache) {
  const auto rows = static_cast<std::int64_t>(batch.tokens.size());
  const auto wanted = static_cast<std::int64_t>(batch.logit_rows.size());
  PLEIAD_CHECK(rows <= rows_max_ && wanted <= logit_rows_max_);
  PLEIAD_CHECK(batch.positions.size() == batch.tokens.size());
  PLEIAD_CHECK(batch.rows.size() == batch.tokens.size());
  if (rows == 0) return {};
  PLEIAD_TRY(device::cuda::checked(cudaSetDevice(stream_.gpu()), "choosing the GPU"));
  const std::int64_t filled = recorded_rows(rows, recorded_rows_max_);
  const Step step = step_of(cache, filled > 0 ? filled : rows, filled > 0 ? filled : wanted);
  PLEIAD_CHECK(batch.logits.size() >= static_cast<std::size_t>(wanted * config_.vocabulary));
  PLEIAD_CHECK(batch.draws.empty() || batch.draws.size() == batch.logit_rows.size());
  PLEIAD_CHECK(batch.drawn.size() >= batch.draws.size());
  step_rows_->upload(stream_, batch, step.rows, step.logit_rows);
  draw_rows_->upload(stream_, batch.draws, step.logit_rows);
  PLEIAD_TRY(filled > 0 ? run_recorded(step) : run(step));
  for (std::int64_t row = 0; row < wanted; ++row) {
    if (batch.draws.empty() || !batch.draws[static_cast<std::size_t>(row)].wanted) {
      copy_logits(batch, row);
    }
  }
  draw_rows_->download(stream_, wanted);
  if (!expert_tokens_.empty()) {
    stream_.copy_to_host(
        expert_tokens_.data(), counted_tokens_.data(), expert_tokens_.size() * sizeof(std::uint64_t)
    );
  }
  PLEIAD_TRY(stream_.wait(fmt::format("a step of {} rows", rows)));
  return finish_draws(batch);
}

void GpuDecoder::copy_logits(const Batch& batch, std::int64_t row) {
  const auto width = static_cast<std::size_t>(config_.vocabulary);
  const std::size_t first = static_cast<std::size_t>(row) * width;
  stream_.copy_to_host(
      batch.logits.data() + first, scratch_.get<float>(logits_) + first, width * sizeof(float)
  );
}

// Hands out what was drawn; rows whose draw was not done get their logits.
Result<void> GpuDecoder::finish_draws(const Batch& batch) {
  bool copies = false;
  for (std::size_t row = 0; row < batch.draws.size(); ++row) {
    batch.drawn[row] = {};
    if (!batch.draws[row].wanted) continue;
    batch.drawn[row] = draw_rows_->drawn(static_cast<std::int64_t>(row));
    if (batch.drawn[row].done) continue;
    copy_logits(batch, static_cast<std::int64_t>(row));
    copies = true;
  }
  return copies ? stream_.wait("logits of a step") : Result<void>{};
}

Result<void> GpuDecoder::run(const Step& step) {
  enqueue(step);
  return stream_.result();
}

Result<void> GpuDecoder::record(kv::PagedCache& cache) {
  PLEIAD_TRY(device::cuda::checked(cudaSetDevice(stream_.gpu()), "choosing the GPU"));
  for (std::int64_t rows = 1; recorded_rows(rows, recorded_rows_max_) > 0; rows *= 2) {
    PLEIAD_TRY(graph, graph_of(step_of(cache, rows, rows)));
    PLEIAD_CHECK(graph != nullptr);
  }
  return stream_.wait("recording steps");
}

// The graph of a step of so many rows, recorded where there is none yet.
Result<const Graph*> GpuDecoder::graph_of(const Step& step) {
  if (recorded_cache_ != step.cache) {
    graphs_.clear();
    recorded_cache_ = step.cache;
  }
  auto found = graphs_.find(step.rows);
  if (found == graphs_.end()) {
    auto graph = Graph::record(stream_, [&]() -> Result<void> {
      enqueue(step);
      return {};
    });
    if (!graph.ok()) {
      return with_context(
          std::move(graph).error(), fmt::format("recording a step of {} rows", step.rows)
      );
    }
    found = graphs_.emplace(step.rows, *std::move(graph)).first;
  }
  return &found->second;
}

Result<void> GpuDecoder::run_recorded(const Step& step) {
  PLEIAD_TRY(graph, graph_of(step));
  graph->launch(stream_);
  return {};
}

GpuDecoder::Step
GpuDecoder::step_of(kv::PagedCache& cache, std::int64_t rows, std::int64_t logit_rows) {
  return {
      .rows = rows,
      .logit_rows = logit_rows,
      .cache = cache.layer(0),
      .layer_stride = cache.shape().page_bytes() * static_cast<std::size_t>(cache.pages()),
      .page_stride = cache.shape().page_bytes(),
  };
}

// x = norm(residual), with the last layer's output added first where it still has to be.
void GpuDecoder::norm(const Step& step, const float* weight, bool adds) {
  kernels::cuda::rms_norm(
      stream_,
      {.x = residual(),
       .add = adds ? delta() : DeviceRows{},
       .rows = step.rows,
       .width = config_.hidden,
       .weight = weight,
       .epsilon = config_.rms_epsilon,
       .y = x()}
  );
}

void GpuDecoder::enqueue(const Step& step) {
  kernels::cuda::embed_rows(
      stream_,
      {.table = weights_.embedding,
       .table_dtype = weights_.embedding_dtype,
       .ids = step_rows_->tokens(),
       .rows = step.rows,
       .width = config_.hidden,
       .y = scratch_.get<float>(residual_)}
  );
  const GpuContext context{.stream = &stream_, .products = &products_, .activation = activation_};
  attention_->begin(context, scratch_, step.rows, step_rows_->places());
  std::int64_t moe_index = 0;
  for (std::size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    enqueue_layer(layer, moe_index, step);
    moe_index += weights_.layers[layer].moe ? 1 : 0;
  }
  if (step.logit_rows > 0) enqueue_head(step);
}

void GpuDecoder::enqueue_layer(std::size_t layer, std::int64_t moe_index, const Step& step) {
  const GpuContext context{.stream = &stream_, .products = &products_, .activation = activation_};
  const GpuWeights::Layer& weights = weights_.layers[layer];
  // An expert layer has normalised its sum for the one behind it; a dense layer's output waits in
  // delta.
  const bool begins = layer == 0;
  const bool waits = !begins && weights_.layers[layer - 1].dense.has_value();
  if (begins || waits) norm(step, weights.input_norm, waits);
  attention_->run(
      context,
      scratch_,
      weights,
      {.x = x(),
       .rows = step.rows,
       .places = step_rows_->places(),
       .cos_sin = angles_.as<float>(),
       .cache = step.cache + layer * step.layer_stride,
       .page_stride = step.page_stride,
       .window = config_.layers[layer].window,
       .delta = delta()}
  );
  if (weights.dense) {
    norm(step, weights.post_attention_norm, true);
    dense_->run(context, scratch_, *weights.dense, step.rows, x(), delta());
    return;
  }
  const bool is_last = layer + 1 == weights_.layers.size();
  moe_->run(
      context,
      scratch_,
      *weights.moe,
      {.delta = delta(),
       .rows = step.rows,
       .positions = step_rows_->places().positions,
       .expert_tokens = counted_tokens_.as<std::uint64_t>() + moe_index * config_.moe.gate.experts,
       .residual = scratch_.get<float>(residual_),
       .norm = weights.post_attention_norm,
       .next_norm = is_last ? nullptr : weights_.layers[layer + 1].input_norm,
       .epsilon = config_.rms_epsilon,
       .x = x()}
  );
}

void GpuDecoder::enqueue_head(const Step& step) {
  if (weights_.layers.back().dense) {
    kernels::cuda::add_rows(
        stream_,
        {.x = delta(),
         .rows = step.rows,
         .width = config_.hidden,
         .sum = scratch_.get<float>(residual_)}
    );
  }
  const DeviceRows head_in = rows(head_in_, config_.hidden, activation_);
  kernels::cuda::rms_norm(
      stream_,
      {.x = residual(),
       .row_index = step_rows_->logit_rows(),
       .rows = step.logit_rows,
       .width = config_.hidden,
       .weight = weights_.final_norm,
       .epsilon = config_.rms_epsilon,
       .y = head_in}
  );
  const DeviceRows logits = rows(logits_, config_.vocabulary, DType::F32);
  products_.run(stream_, step.logit_rows, weights_.head, nullptr, head_in, logits);
  draw_rows_->run(stream_, scratch_.get<float>(logits_), step.logit_rows);
}

class GpuDecoderCheckpoint final : public ModelWeights {
 public:
  GpuDecoderCheckpoint(
      const DecoderConfig& config,
      Compute compute,
      int gpu,
      std::unique_ptr<GpuWeights> weights
  )
      : config_(config),
        shape_(shape_of(config, compute, 1)),
        gpu_(gpu),
        weights_(std::move(weights)) {}

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] std::size_t bytes() const override { return weights_->memory.size(); }
  [[nodiscard]] LoadPhases phases() const override { return weights_->phases; }
  [[nodiscard]] Result<std::unique_ptr<Model>> make_rank(const RankOptions& options
  ) const override {
    if (options.place.rank.ranks > 1) {
      return unsupported("--device cuda: a GPU serves as one rank alone; use --ep-size 1");
    }
    const std::int64_t rows_max =
        std::max({options.limits.rows_max, options.limits.logit_rows_max, kRecordedRowsMax});
    if (rows_max > kernels::cuda::dense_row_buckets().back()) {
      return unsupported(
          "--max-num-batched-tokens {}: a step on a GPU has at most {} rows",
          rows_max,
          kernels::cuda::dense_row_buckets().back()
      );
    }
    PLEIAD_TRY(stream, Stream::create({.gpu = gpu_}));
    PLEIAD_TRY(products, Products::create(rows_max));
    auto rank = std::make_unique<GpuDecoder>(
        config_, *weights_, options, std::move(stream), std::move(products)
    );
    PLEIAD_TRY(rank->prepare(options));
    return std::unique_ptr<Model>(std::move(rank));
  }
  [[nodiscard]] Result<kv::PagedCache> make_cache(std::int64_t pages) const override {
    PLEIAD_TRY(device::cuda::checked(cudaSetDevice(gpu_), "choosing the GPU"));
    const std::size_t bytes =
        shape_.cache.page_bytes_all_layers() * static_cast<std::size_t>(pages);
    PLEIAD_TRY(
        memory, DeviceBuffer::allocate(bytes, "the KV pages", "a lower --kv-cache-bytes needs less")
    );
    return kv::PagedCache::elsewhere(
        shape_.cache, pages, std::make_unique<GpuCacheMemory>(std::move(memory))
    );
  }

 private:
  DecoderConfig config_;
  ModelShape shape_;
  int gpu_;
  std::unique_ptr<GpuWeights> weights_;
};

}  // namespace

Result<std::unique_ptr<ModelWeights>>
make_dummy_gpu_decoder(const DecoderConfig& config, Compute compute, int gpu) {
  PLEIAD_TRY(checkpoint, make_dummy_checkpoint(config, compute));
  return load_gpu_decoder(config, *checkpoint, {.compute = compute, .gpu = gpu});
}

Result<std::unique_ptr<ModelWeights>> load_gpu_decoder(
    const DecoderConfig& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) {
  PLEIAD_CHECK(options.gpu.has_value());
  PLEIAD_TRY(gpu, device::cuda::find_gpu(*options.gpu));
  if (options.moe_tp > 1 || options.tensor_parts > 1) {
    return unsupported("--device cuda: --tp-size and --moe-tp-size must be 1");
  }
  PLEIAD_TRY(planned, plan_decoder_weights(config, checkpoint, options));
  PLEIAD_TRY(stream, Stream::create({.gpu = gpu.index}));
  PLEIAD_TRY(
      weights,
      upload_weights(
          *planned,
          checkpoint,
          stream,
          {.readers = options.pool == nullptr ? kReadersMax
                                              : std::min(kReadersMax, options.pool->workers()),
           .weight_bytes_max = options.weight_bytes_max,
           .progress = options.progress}
      )
  );
  return std::unique_ptr<ModelWeights>(
      std::make_unique<GpuDecoderCheckpoint>(config, options.compute, gpu.index, std::move(weights))
  );
}

}  // namespace pleiad::model::cuda
