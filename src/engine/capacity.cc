#include "engine/capacity.h"

#include <algorithm>

#include "base/check.h"
#include "sched/page_pool.h"

namespace pleiad::engine {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

double gib(std::size_t bytes) {
  return static_cast<double>(bytes) / kGib;
}

std::int64_t pages_for(std::int64_t tokens) {
  return (tokens + sched::kPageTokens - 1) / sched::kPageTokens;
}

}  // namespace

Result<Capacity> plan_capacity(const CapacityInput& input) {
  PLEIAD_CHECK(input.page_bytes > 0 && input.positions_max > 0 && input.sequences_max > 0);
  if (input.model_tokens > input.positions_max) {
    return invalid_input(
        "--max-model-len {} is beyond the checkpoint's {} positions; use at most {}",
        input.model_tokens,
        input.positions_max,
        input.positions_max
    );
  }
  const auto budget =
      static_cast<std::size_t>(static_cast<double>(input.memory_bytes) * input.memory_fraction);
  const std::size_t left = budget > input.resident_bytes ? budget - input.resident_bytes : 0;
  const std::size_t kv_bytes = input.kv_bytes > 0 ? input.kv_bytes : left;
  const auto affordable = static_cast<std::int64_t>(kv_bytes / input.page_bytes);

  Capacity out;
  const std::int64_t wanted = input.model_tokens > 0 ? input.model_tokens : input.positions_max;
  out.model_tokens = wanted;
  if (affordable < pages_for(wanted)) {
    // Without an explicit wish a shorter context is better than no service.
    if (input.model_tokens > 0 || affordable == 0) {
      return exhausted(
          "a sequence of {} tokens needs {:.2f} GiB of KV cache, {:.2f} GiB are left: memory "
          "{:.2f} GiB x "
          "--mem-fraction-static {} less {:.2f} GiB of weights and scratch; lower --max-model-len "
          "to {}",
          wanted,
          gib(static_cast<std::size_t>(pages_for(wanted)) * input.page_bytes),
          gib(kv_bytes),
          gib(input.memory_bytes),
          input.memory_fraction,
          gib(input.resident_bytes),
          affordable * sched::kPageTokens
      );
    }
    out.model_tokens = affordable * sched::kPageTokens;
  }
  const std::int64_t useful = pages_for(out.model_tokens) * input.sequences_max;
  out.pages = std::min(affordable, useful);
  return out;
}

}  // namespace pleiad::engine
