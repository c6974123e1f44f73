#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "kernels/packed_matrix.h"
#include "kernels/paged_attention.h"
#include "kernels/rope.h"
#include "model/attention_step.h"
#include "model/tensor_exchange.h"

namespace pleiad::model {

// Sizes and switches of a grouped-query attention layer (Ainslie et al., arXiv 2305.13245).
struct GqaShape {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // heads % kv_heads == 0
  std::int64_t head = 0;      // elements of one head
  std::int64_t rope = 0;      // of those, the first ones turn
  float rms_epsilon = 1e-6F;
  float scale = 1.0F;
  kernels::RopePairs rope_pairs = kernels::RopePairs::Halves;
  bool qk_norm = false;   // RMS norm of each query and key head before it turns
  bool qkv_bias = false;  // on queries, keys and values
  bool out_bias = false;
  bool sinks = false;  // one more logit per head

  [[nodiscard]] std::int64_t query() const { return heads * head; }
  [[nodiscard]] std::int64_t qkv() const { return (heads + 2 * kv_heads) * head; }
};

// What one tensor part holds: its neighbouring heads and outputs. `heads` and `kv_heads` are those
// of the part.
struct GqaWeights {
  kernels::PackedMatrix qkv;    // [(heads + 2 * kv_heads) * head, hidden]: q, k and v stacked
  std::vector<float> qkv_bias;  // [(heads + 2 * kv_heads) * head], or empty
  std::vector<float> q_norm;    // [head], or empty
  std::vector<float> k_norm;    // [head], or empty
  std::vector<float> sinks;     // [heads], or empty
  kernels::PackedMatrix out;    // [part of hidden, all heads * head]
  std::vector<float> out_bias;  // [part of hidden], or empty
};

// What tensor part `place.part` has of the heads. More parts than kv_heads share them: each has the
// one that its heads read.
GqaShape heads_of_part(const GqaShape& whole, const TensorPlace& place);
// The first of its keys' and values' heads.
std::int64_t first_kv_head(const GqaShape& whole, const TensorPlace& place);

// Runs attention layers of one shape, one at a time. Each tensor part attends with its heads. One
// thread at a time.
class GqaRunner {
 public:
  // Reserves scratch alive from op `first` to op `last` of the caller's step. `shape` is of all
  // parts together.
  GqaRunner(
      const GqaShape& shape,
      const TensorPlace& place,
      const AttentionLimits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  // `memory` is of the plan given at construction. Allocates nothing. Fails when a tensor part
  // does.
  Result<void> run(
      const kernels::Context& context,
      device::Scratch& memory,
      TensorExchange& tensor,
      const GqaWeights& weights,
      const AttentionStep& step
  ) const;

 private:
  struct Arrays;

  void project(
      const kernels::Context& context,
      const GqaWeights& weights,
      const AttentionStep& step,
      const Arrays& a
  ) const;
  void turn(
      const kernels::Context& context,
      const AttentionStep& step,
      float* heads,
      std::int64_t count
  ) const;
  void attend(
      const kernels::Context& context,
      const GqaWeights& weights,
      const AttentionStep& step,
      const Arrays& a
  ) const;

  GqaShape shape_;              // with the heads of this part
  std::int64_t all_heads_ = 0;  // of all parts
  PartRange hidden_;            // of this part
  device::RegionId qkv_;
  device::RegionId attended_;
  device::RegionId delta_;
  device::RegionId attention_scratch_;
};

}  // namespace pleiad::model
