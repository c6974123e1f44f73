#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace pleiad::plan {

// How rows reach their experts (MindIE's ep_level).
enum class EpLevel {
  Auto,       // chosen per step from the number of tokens
  AllGather,  // 1: every rank sees all rows and computes those of its experts
  AllToAll,   // 2: a row travels only to the ranks that hold its experts
};

enum class Routing {
  Gate,  // the checkpoint's gate
  Hash,  // a function of the token id: load-independent, known before the layer runs
};

// From `tokens` on, a rank's receive buffer holds factor * tokens * topk / ep_size rows.
struct BufferScale {
  std::int64_t tokens = 0;
  double factor = 1.0;
};

// The expert-parallel keys of a service, named as MindIE names them.
struct EpSettings {
  EpLevel level = EpLevel::Auto;
  // Level 1 only: bound the routed rows a rank holds at once to
  // ceil(topk_scaling_factor * tokens * topk).
  bool enable_init_routing_cutoff = false;
  double topk_scaling_factor = 1.0;  // in (0, 1]
  // Level 2 only; thresholds strictly descending, the last one 0.
  std::vector<BufferScale> alltoall_ep_buffer_scale_factors = default_buffer_scales();
  bool two_batch_overlap = false;
  // Steps of at least this many tokens on some rank are split in two when two_batch_overlap is on.
  std::int64_t two_batch_tokens_min = 32;
  Routing routing = Routing::Gate;

  // The example of MindIE's manual: 1.32 from 1 Mi tokens on, rising to 8 for the smallest batches.
  static std::vector<BufferScale> default_buffer_scales();
};

// Checks ranges and the rules between keys; a refusal names rule, value and nearest valid value.
Result<void> validate(const EpSettings& settings);

// Rows (one per token and rank) that a rank receives at once under level 1 in a step of `tokens`
// rows over all ranks: all of them, or what the routing cut-off leaves; at least 1.
std::int64_t
level1_rows_at_once(const EpSettings& settings, std::int64_t tokens, std::int64_t topk);

// Rows that a rank's receive buffer holds under level 2 when the ranks of the group run at most
// `tokens` rows together in a step: the factor of the largest threshold at or below `tokens`, times
// tokens
// * topk / ep_size, rounded up; never more than `tokens`, at least ep_size.
std::int64_t level2_receive_rows(
    const EpSettings& settings,
    std::int64_t tokens,
    std::int64_t topk,
    std::int64_t ep_size
);

}  // namespace pleiad::plan
