#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"
#include "device/dtype.h"
#include "device/thread_pool.h"
#include "ep/moe_layer.h"
#include "kernels/context.h"
#include "kernels/paged_attention.h"
#include "kv/paged_cache.h"
#include "model/draw.h"
#include "model/load_phases.h"
#include "model/tensor_parts.h"
#include "model/unread_tensors.h"
#include "weights/checkpoint.h"

namespace pleiad::model {

// Names of the kernels that a model's callers need.
using kernels::AttentionRow;
using kernels::Compute;
using kernels::kPageTokens;

// What the rest of the program needs to know of a model before and after its weights are loaded.
struct ModelShape {
  std::int64_t vocabulary = 0;
  std::int64_t positions_max = 0;  // context the checkpoint was made for
  std::int64_t heads = 0;          // of attention, all tensor parts together
  std::int64_t kv_heads = 0;       // of keys and values, likewise; 0: one latent for all heads
  std::int64_t moe_layers = 0;
  ep::MoeShape moe;      // of each MoE layer; gate.experts is 0 without any
  kv::CacheShape cache;  // of one tensor part
};

// Hears of a step while it runs, on the thread that runs it. Must return at once.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // Keys and values of all rows are in layer `layer`'s cache, of all tensor parts.
  virtual void on_lines(std::int64_t layer) = 0;
};

// The rows of one step. All spans live until forward() returns.
struct Batch {
  std::span<const TokenId> tokens;           // [rows], each below the vocabulary
  std::span<const std::int64_t> positions;   // [rows]
  std::span<const AttentionRow> rows;        // [rows]; rows of one sequence together, ascending
  std::span<const std::int32_t> logit_rows;  // rows whose logits are wanted
  std::span<float> logits;                   // [logit_rows, vocabulary]
  // For a model that draws: by logit row, the draw that is wanted instead of its logits, and what
  // came of it. Empty: all logits are wanted.
  std::span<const Draw> draws;           // [logit_rows]
  std::span<Drawn> drawn;                // [logit_rows]
  const ep::GroupStep* group = nullptr;  // of a rank with peers: what they agreed on
  LayerObserver* observer = nullptr;     // on the host, of the part that leads; or null
};

struct ForwardLimits {
  std::int64_t rows_max = 0;        // of one step
  std::int64_t logit_rows_max = 0;  // of one step
  std::int64_t context_max = 0;     // positions of one sequence
};

// Bytes of scratch.
struct ScratchBytes {
  std::size_t planned = 0;
  std::size_t naive = 0;  // without sharing between regions
};

// One rank of a model: computes its own rows with its share of the experts. One thread at a time.
class Model {
 public:
  virtual ~Model() = default;
  [[nodiscard]] virtual const ModelShape& shape() const = 0;
  [[nodiscard]] virtual ScratchBytes scratch() const = 0;
  // Writes keys and values of every row into `cache` and logits of the wanted rows. A row's results
  // depend on its sequence's tokens alone (DESIGN R1, R2). With peers, all ranks make this call
  // together, those without rows too; it fails when a peer does, and the cache's new positions are
  // then undefined. Tensor parts are given the same rows; only the first one's logits are written.
  // Allocates nothing.
  virtual Result<void> forward(const Batch& batch, kv::PagedCache& cache) = 0;
  // Makes ready what can be made once for the cache that all steps will use. Called before the
  // first forward(), or never.
  virtual Result<void> record(kv::PagedCache& /*cache*/) { return {}; }
  // Whether it draws tokens where it computes, so that logits need not leave it.
  [[nodiscard]] virtual bool draws() const { return false; }
  // Own rows that chose each expert since start, [moe_layers, experts].
  [[nodiscard]] virtual std::span<const std::uint64_t> expert_tokens() const = 0;
};

struct RankOptions {
  kernels::Context context;
  ForwardLimits limits;
  TensorPlace tensor;
  ep::MoePlace place;
};

// A model's weights, packed; shared by all ranks of a process. Immutable.
class ModelWeights {
 public:
  virtual ~ModelWeights() = default;
  [[nodiscard]] virtual const ModelShape& shape() const = 0;
  [[nodiscard]] virtual std::size_t bytes() const = 0;
  // What loading them took, as far as it was told apart.
  [[nodiscard]] virtual LoadPhases phases() const { return {}; }
  // A rank that computes with these weights and must not outlive them. Fails with Exhausted when
  // there is no memory for its scratch.
  [[nodiscard]] virtual Result<std::unique_ptr<Model>> make_rank(const RankOptions& options
  ) const = 0;
  // A cache for ranks of these weights, where they compute. Fails with Exhausted.
  [[nodiscard]] virtual Result<kv::PagedCache> make_cache(std::int64_t pages) const {
    return kv::PagedCache::allocate(shape().cache, pages);
  }
};

struct LoadOptions {
  device::ThreadPool* pool = nullptr;  // packs
  Compute compute = Compute::Float32;
  std::optional<int> gpu;  // which GPU computes; none: the host
  // Which experts this process holds, whole or (moe_tp > 1) one shard of; empty: all. Only these
  // are read from the files.
  std::int32_t moe_tp = 1;
  std::function<bool(std::int64_t layer, std::int32_t expert, std::int32_t shard)> holds;
  // Which tensor parts of attention, dense layers and head this process holds; empty: all.
  std::int32_t tensor_parts = 1;
  std::function<bool(std::int32_t part)> holds_part;
  // Loading fails with Exhausted, before anything large is allocated, when the weights need more.
  std::size_t weight_bytes_max = SIZE_MAX;
  // Called now and then from the loading thread with bytes packed so far and in all; may be empty.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

struct DecoderConfig;

// A supported architecture: one row of the table in model.cc.
struct Architecture {
  std::string_view name;  // as in config.json's "architectures"
  // What `config` describes; fails naming the key that this program does not compute. Says nothing
  // of its quantization_config.
  Result<DecoderConfig> (*parse)(const Json& config);

  // The same with how its weights are stored.
  [[nodiscard]] Result<DecoderConfig> describe(const Json& config) const;
  // As one of so many tensor parts sees it. REQUIRES: they divide the heads.
  [[nodiscard]] Result<ModelShape>
  shape(const Json& config, Compute compute, std::int32_t tensor_parts = 1) const;
  // Whether the checkpoint has all that load() wants; the bytes that the packed weights take.
  [[nodiscard]] Result<std::size_t> check(
      const Json& config,
      const weights::Checkpoint& checkpoint,
      const LoadOptions& options
  ) const;
  // What load() would leave unread.
  [[nodiscard]] Result<UnreadTensors>
  unread(const Json& config, const weights::Checkpoint& checkpoint) const;
  // Weights of noise in the config's shapes and formats (dummy_checkpoint.h), to load().
  [[nodiscard]] Result<std::unique_ptr<weights::Checkpoint>>
  make_dummy(const Json& config, Compute compute) const;
  [[nodiscard]] Result<std::unique_ptr<ModelWeights>>
  load(const Json& config, const weights::Checkpoint& checkpoint, const LoadOptions& options) const;
};

// The row for the config's architecture. Fails with Unsupported, naming those that are supported.
Result<const Architecture*> find_architecture(const Json& config);

}  // namespace pleiad::model
