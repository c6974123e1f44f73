#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "kernels/gemm.h"
#include "kernels/packed_matrix.h"
#include "kernels/paged_attention.h"
#include "kernels/rope.h"
#include "model/attention_step.h"
#include "model/tensor_exchange.h"

namespace pleiad::model {

// Sizes of a multi-head latent attention layer (DeepSeek-V2, arXiv 2405.04434, 2.1.2).
struct MlaShape {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t q_lora = 0;  // 0: none
  std::int64_t kv_lora = 0;
  std::int64_t nope = 0;   // query/key elements without position
  std::int64_t rope = 0;   // query/key elements with position
  std::int64_t value = 0;  // value elements per head
  float rms_epsilon = 1e-6F;
  float scale = 1.0F;
  kernels::RopePairs rope_pairs = kernels::RopePairs::Interleaved;

  // Outputs of the first product: query part, latent, shared roped key.
  [[nodiscard]] std::int64_t first_query() const { return q_lora > 0 ? q_lora : query(); }
  [[nodiscard]] std::int64_t query() const { return heads * (nope + rope); }
  [[nodiscard]] std::int64_t down() const { return first_query() + kv_lora + rope; }
};

// What one tensor part holds: its neighbouring heads and outputs. `heads` are those of the part.
struct MlaWeights {
  kernels::PackedMatrix
      down;                   // [first_query + kv_lora + rope, hidden]: q_a (or q) and kv_a stacked
  std::vector<float> q_norm;  // [q_lora], empty without it
  kernels::PackedMatrix q_up;  // [heads * (nope + rope), q_lora], unused without q_lora
  std::vector<float> kv_norm;  // [kv_lora]
  std::vector<kernels::PackedMatrix> key_up;    // [heads] of W_UK^T [kv_lora, nope]
  std::vector<kernels::PackedMatrix> value_up;  // [heads] of W_UV [value, kv_lora]
  kernels::PackedMatrix out;                    // [part of hidden, all heads * value]
};

// Runs attention layers of one shape, one at a time, in absorbed form (reference: DeepSeek-V2
// §2.1.2 and its appendix): the query is carried into the latent space, attends to cached latents
// directly, and the result is carried out per head. Each tensor part attends with its heads. One
// thread at a time.
class MlaRunner {
 public:
  // Reserves scratch alive from op `first` to op `last` of the caller's step. `shape` is of all
  // parts together.
  MlaRunner(
      const MlaShape& shape,
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
      const MlaWeights& weights,
      const AttentionStep& step
  );

 private:
  struct Arrays;

  void project_down(const kernels::Context& context, const AttentionStep& step, const Arrays& a)
      const;
  void make_queries(const kernels::Context& context, const AttentionStep& step, const Arrays& a);
  void attend(const kernels::Context& context, const AttentionStep& step, const Arrays& a) const;
  void carry_out(const kernels::Context& context, const AttentionStep& step, const Arrays& a);

  MlaShape shape_;              // with the heads of this part
  std::int64_t all_heads_ = 0;  // of all parts
  PartRange hidden_;            // of this part
  device::RegionId down_;
  device::RegionId q_low_;
  device::RegionId query_;
  device::RegionId latent_;
  device::RegionId q_latent_;
  device::RegionId attended_;
  device::RegionId values_;
  device::RegionId delta_;
  device::RegionId attention_scratch_;
  std::vector<kernels::GemmTask> tasks_;  // [heads]
};

}  // namespace pleiad::model
