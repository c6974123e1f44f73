#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"
#include "device/dtype.h"
#include "kernels/context.h"
#include "kernels/latent_attention.h"
#include "kv/paged_cache.h"
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
  std::int64_t moe_layers = 0;
  std::int64_t experts = 0;  // routed, in each MoE layer
  kv::CacheShape cache;
};

// The rows of one step. All spans live until forward() returns.
struct Batch {
  std::span<const TokenId> tokens;           // [rows], each below the vocabulary
  std::span<const std::int64_t> positions;   // [rows]
  std::span<const AttentionRow> rows;        // [rows]; rows of one sequence together, ascending
  std::span<const std::int32_t> logit_rows;  // rows whose logits are wanted
  std::span<float> logits;                   // [logit_rows, vocabulary]
};

struct ForwardLimits {
  std::int64_t rows_max = 0;        // of one step
  std::int64_t logit_rows_max = 0;  // of one step
  std::int64_t context_max = 0;     // positions of one sequence
};

// Bytes a loaded model holds.
struct ModelMemory {
  std::size_t weights = 0;
  std::size_t scratch = 0;        // as planned
  std::size_t scratch_naive = 0;  // without sharing between regions
};

// A transformer with its weights, on one device. One thread at a time.
class Model {
 public:
  virtual ~Model() = default;
  [[nodiscard]] virtual const ModelShape& shape() const = 0;
  [[nodiscard]] virtual ModelMemory memory() const = 0;
  // Writes keys and values of every row into `cache` and logits of the wanted rows. A row's results
  // depend on its sequence's tokens alone (DESIGN R1, R2). Allocates nothing.
  virtual void forward(const Batch& batch, kv::PagedCache& cache) = 0;
  // Tokens each expert has received since start, [moe_layers, experts].
  [[nodiscard]] virtual std::span<const std::uint64_t> expert_tokens() const = 0;
};

struct LoadOptions {
  kernels::Context context;
  ForwardLimits limits;
  // Loading fails with Exhausted, before anything large is allocated, when the weights need more.
  std::size_t weight_bytes_max = SIZE_MAX;
  // Called now and then from the loading thread with bytes packed so far and in all; may be empty.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

// A supported architecture: one row of the table in model.cc.
struct Architecture {
  std::string_view name;  // as in config.json's "architectures"
  // What `config` describes; fails naming the key that this program does not compute.
  Result<ModelShape> (*shape)(const Json& config, Compute compute);
  Result<std::unique_ptr<Model>> (*load
  )(const Json& config, const weights::Checkpoint& checkpoint, const LoadOptions& options);
};

// The row for the config's architecture. Fails with Unsupported, naming those that are supported.
Result<const Architecture*> find_architecture(const Json& config);

}  // namespace pleiad::model
