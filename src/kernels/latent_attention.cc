#include "kernels/latent_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/detail/attention_plan.h"
#include "kernels/detail/isa_kernels.h"
#include "kernels/detail/row_blocks.h"

namespace pleiad::kernels {
namespace {

using detail::AttentionPlan;
using detail::AttentionShape;
using detail::AttentionUnit;
using detail::IsaKernels;
using detail::kLanes;
using detail::kRangePages;
using detail::SoftmaxState;

// What one worker computes with; pieces of the task's scratch.
struct Slot {
  float* q = nullptr;       // [pairs, latent + rope]
  float* keys = nullptr;    // PagePanels::keys
  float* values = nullptr;  // PagePanels::values
  float* scores = nullptr;  // [pairs, 64]
  float* states = nullptr;  // a stack of softmax states
};

// One call's walk over units. The order of additions for a row is set by its position alone:
// pages in order within a range of kRangePages, ranges along a binary tree over their numbers.
class Walk {
 public:
  Walk(const Context& context, const LatentAttentionTask& task, const AttentionPlan& plan)
      : context_(context),
        task_(task),
        plan_(plan),
        shape_(plan.shape()),
        isa_(detail::kernels_of(context.isa)) {}

  void run() {
    const std::int64_t units = plan_.units();
    const auto slots =
        static_cast<std::size_t>(std::min<std::int64_t>(units, context_.pool->workers()));
    std::atomic<std::int64_t> next{0};
    context_.pool->parallel_for(slots, [&](std::size_t index) {
      const Slot slot = slot_at(index);
      // Last units first: rows at the end of a prompt see the most tokens.
      for (std::int64_t i = next++; i < units; i = next++) {
        run_unit(slot, plan_.unit(units - 1 - i));
      }
    });
    if (!plan_.split()) return;
    const auto blocks = static_cast<std::size_t>(plan_.tiles() * shape_.groups);
    context_.pool->parallel_for(blocks, [&](std::size_t block) {
      join_spans(static_cast<std::int64_t>(block));
    });
  }

 private:
  [[nodiscard]] std::int64_t pairs_of(const AttentionUnit& unit) const {
    return unit.rows * unit.heads;
  }

  [[nodiscard]] std::int64_t visible(const AttentionUnit& unit, std::int64_t row, std::int64_t page)
      const {
    const std::int64_t position = task_.rows[static_cast<std::size_t>(unit.row + row)].position;
    return std::clamp<std::int64_t>(position + 1 - page * kPageTokens, 0, kPageTokens);
  }

  [[nodiscard]] Slot slot_at(std::size_t index) const {
    float* at = task_.scratch.data() + plan_.slots_begin() + index * shape_.slot_floats();
    Slot slot;
    slot.q = at;
    slot.keys = slot.q + shape_.q_floats();
    slot.values = slot.keys + shape_.key_floats();
    slot.scores = slot.values + shape_.value_floats();
    slot.states = slot.scores + shape_.score_floats();
    return slot;
  }

  [[nodiscard]] SoftmaxState state_at(float* at) const {
    const std::int64_t pairs = shape_.pairs;
    return {at, at + pairs, at + 2 * pairs, shape_.width};
  }
  [[nodiscard]] SoftmaxState stack_at(const Slot& slot, std::int64_t depth) const {
    return state_at(slot.states + static_cast<std::size_t>(depth) * shape_.state_floats());
  }
  // Where unit number `unit` leaves its span's state.
  [[nodiscard]] SoftmaxState partial_at(std::int64_t unit) const {
    float* begin = task_.scratch.data() + plan_.partials_begin();
    return state_at(begin + static_cast<std::size_t>(unit) * shape_.state_floats());
  }

  void gather_queries(const Slot& slot, const AttentionUnit& unit) const {
    const std::int64_t latent = task_.pages.latent;
    const std::int64_t rope = task_.pages.rope;
    float* out = slot.q;
    for (std::int64_t row = unit.row; row < unit.row + unit.rows; ++row) {
      for (std::int64_t head = unit.head; head < unit.head + unit.heads; ++head) {
        const float* q = task_.q_latent + (row * task_.heads + head) * latent;
        const float* k =
            task_.q_rope + row * task_.q_rope_row_stride + head * task_.q_rope_head_stride;
        std::memcpy(out, q, static_cast<std::size_t>(latent) * sizeof(float));
        std::memcpy(out + latent, k, static_cast<std::size_t>(rope) * sizeof(float));
        out += latent + rope;
      }
    }
  }

  void run_unit(const Slot& slot, const AttentionUnit& unit) const {
    gather_queries(slot, unit);
    std::int64_t depth = 0;
    for (std::int64_t range = unit.range_begin; range < unit.range_end; ++range) {
      run_range(slot, unit, range, stack_at(slot, depth));
      ++depth;
      // Ranges pair up as the bits of their number carry.
      for (std::int64_t i = range - unit.range_begin; i % 2 != 0; i /= 2) {
        merge(slot, --depth, unit);
      }
    }
    while (depth > 1) {
      merge(slot, --depth, unit);
    }
    const SoftmaxState state = stack_at(slot, 0);
    if (unit.whole) {
      finish(unit, state);
    } else {
      std::memcpy(
          partial_at(unit.number).maximum, state.maximum, shape_.state_floats() * sizeof(float)
      );
    }
  }

  // Merges stack entry `depth` into the one before it.
  void merge(const Slot& slot, std::int64_t depth, const AttentionUnit& unit) const {
    isa_.merge_softmax(stack_at(slot, depth - 1), stack_at(slot, depth), pairs_of(unit));
  }

  void run_range(
      const Slot& slot,
      const AttentionUnit& unit,
      std::int64_t range,
      const SoftmaxState& state
  ) const {
    const std::int64_t pairs = pairs_of(unit);
    std::fill_n(state.maximum, pairs, -std::numeric_limits<float>::infinity());
    std::fill_n(state.total, pairs, 0.0F);
    std::fill_n(state.sum, pairs * state.width, 0.0F);
    const std::int64_t end = std::min((range + 1) * kRangePages, unit.pages);
    for (std::int64_t page = range * kRangePages; page < end; ++page) {
      run_page(slot, unit, page, state);
    }
  }

  void run_page(
      const Slot& slot,
      const AttentionUnit& unit,
      std::int64_t page,
      const SoftmaxState& state
  ) const {
    const LatentPages& pages = task_.pages;
    const auto* table = task_.rows[static_cast<std::size_t>(unit.row)].page_table;
    const std::int64_t tokens = visible(unit, unit.rows - 1, page);
    isa_.load_page({
        .page = pages.base + table[page] * pages.page_stride,
        .bf16 = pages.dtype == device::DType::BF16,
        .latent = pages.latent,
        .rope = pages.rope,
        .tokens = tokens,
        .keys = slot.keys,
        .values = slot.values,
    });
    std::int64_t first = 0;
    while (visible(unit, first, page) == 0) {
      ++first;
    }
    score(slot, {first * unit.heads, pairs_of(unit)}, tokens);
    // Rows that see the whole page go together; those that end within it one by one, each over
    // exactly the tokens it sees.
    for (std::int64_t row = first; row < unit.rows;) {
      const std::int64_t seen = visible(unit, row, page);
      std::int64_t end = row + 1;
      while (end < unit.rows && visible(unit, end, page) == seen) {
        ++end;
      }
      accumulate(slot, {row * unit.heads, end * unit.heads}, seen, state);
      row = end;
    }
  }

  struct PairRange {
    std::int64_t begin;
    std::int64_t end;
  };

  // scores = q . key for the first `tokens` tokens of the page, rounded up to whole panels.
  void score(const Slot& slot, PairRange pairs, std::int64_t tokens) const {
    const std::int64_t inputs = task_.pages.latent + task_.pages.rope;
    isa_.gemm_f32({
        .x = slot.q + pairs.begin * inputs,
        .x_stride = inputs,
        .rows = pairs.end - pairs.begin,
        .weight = reinterpret_cast<const std::byte*>(slot.keys),
        .panel_step = inputs * kLanes * static_cast<std::int64_t>(sizeof(float)),
        .inputs = inputs,
        .outputs = (tokens + kLanes - 1) / kLanes * kLanes,
        .y = slot.scores + pairs.begin * kPageTokens,
        .y_stride = kPageTokens,
    });
  }

  void accumulate(const Slot& slot, PairRange pairs, std::int64_t tokens, const SoftmaxState& state)
      const {
    float* scores = slot.scores + pairs.begin * kPageTokens;
    const std::int64_t count = pairs.end - pairs.begin;
    const SoftmaxState part = {
        state.maximum + pairs.begin,
        state.total + pairs.begin,
        state.sum + pairs.begin * state.width,
        state.width,
    };
    isa_.page_softmax({scores, count, tokens, task_.scale}, part);
    isa_.gemm_f32({
        .x = scores,
        .x_stride = kPageTokens,
        .rows = count,
        .weight = reinterpret_cast<const std::byte*>(slot.values),
        .panel_step = kPageTokens * kLanes * static_cast<std::int64_t>(sizeof(float)),
        .inputs = tokens,
        .outputs = state.width,
        .y = part.sum,
        .y_stride = state.width,
        .accumulate = true,
    });
  }

  // Joins the spans of one (tile, head group), numbered tile-major, and writes its outputs.
  void join_spans(std::int64_t block) const {
    const AttentionUnit first = plan_.unit_of(block / shape_.groups, block % shape_.groups, 0);
    if (first.whole) return;
    const std::int64_t spans = plan_.spans(block / shape_.groups);
    const std::int64_t pairs = pairs_of(first);
    // Span i absorbs span i + step where both exist: the upper levels of the tree.
    for (std::int64_t step = 1; step < spans; step *= 2) {
      for (std::int64_t i = 0; i + step < spans; i += 2 * step) {
        isa_.merge_softmax(
            partial_at(first.number + i), partial_at(first.number + i + step), pairs
        );
      }
    }
    finish(first, partial_at(first.number));
  }

  void finish(const AttentionUnit& unit, const SoftmaxState& state) const {
    const std::int64_t latent = task_.pages.latent;
    for (std::int64_t pair = 0; pair < pairs_of(unit); ++pair) {
      const std::int64_t row = unit.row + pair / unit.heads;
      const std::int64_t head = unit.head + pair % unit.heads;
      isa_.scale_row({
          .x = state.sum + pair * state.width,
          .factor = 1.0F / state.total[pair],
          .count = latent,
          .y = task_.out + (row * task_.heads + head) * latent,
          .round = context_.compute == Compute::BFloat16,
      });
    }
  }

  const Context& context_;
  const LatentAttentionTask& task_;
  const AttentionPlan& plan_;
  const AttentionShape& shape_;
  const IsaKernels& isa_;
};

std::int64_t longest_context(std::span<const AttentionRow> rows) {
  std::int64_t longest = 1;
  for (const AttentionRow& row : rows) {
    longest = std::max(longest, row.position + 1);
  }
  return longest;
}

// Element `index` of line `line` of a row's cache, as a double.
double
cached(const LatentPages& pages, const AttentionRow& row, std::int64_t token, std::int64_t index) {
  const std::byte* page = pages.base + row.page_table[token / kPageTokens] * pages.page_stride;
  const std::int64_t at = token % kPageTokens * (pages.latent + pages.rope) + index;
  if (pages.dtype == device::DType::BF16) {
    return device::bf16_to_float(reinterpret_cast<const device::BF16*>(page)[at]);
  }
  return reinterpret_cast<const float*>(page)[at];
}

// The softmax of one row and head over the tokens it sees.
std::vector<double>
reference_weights(const LatentAttentionTask& task, std::size_t row, std::int64_t head) {
  const AttentionRow& at = task.rows[row];
  const auto line = static_cast<std::int64_t>(row);
  const std::int64_t latent = task.pages.latent;
  const float* q = task.q_latent + (line * task.heads + head) * latent;
  const float* k = task.q_rope + line * task.q_rope_row_stride + head * task.q_rope_head_stride;
  std::vector<double> weights(static_cast<std::size_t>(at.position + 1));
  for (std::size_t t = 0; t < weights.size(); ++t) {
    for (std::int64_t d = 0; d < latent + task.pages.rope; ++d) {
      const double query = d < latent ? q[d] : k[d - latent];
      weights[t] += query * cached(task.pages, at, static_cast<std::int64_t>(t), d);
    }
    weights[t] *= task.scale;
  }
  const double top = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) {
    weight = std::exp(weight - top);
    total += weight;
  }
  for (double& weight : weights) {
    weight /= total;
  }
  return weights;
}

// Element `index` of the weighted sum of a row's tokens.
double weighted_sum(
    const LatentPages& pages,
    const AttentionRow& row,
    std::span<const double> weights,
    std::int64_t index
) {
  double sum = 0;
  for (std::size_t t = 0; t < weights.size(); ++t) {
    sum += weights[t] * cached(pages, row, static_cast<std::int64_t>(t), index);
  }
  return sum;
}

}  // namespace

void store_latent(const Context& context, const StoreLatentTask& task) {
  const LatentPages& pages = task.pages;
  const std::int64_t width = pages.latent + pages.rope;
  const auto rows = static_cast<std::int64_t>(task.rows.size());
  detail::for_rows(context, rows, width, [&](std::int64_t row) {
    const AttentionRow& at = task.rows[static_cast<std::size_t>(row)];
    std::byte* page = pages.base + at.page_table[at.position / kPageTokens] * pages.page_stride;
    const std::int64_t line = at.position % kPageTokens * width;
    const float* latent = task.latent + row * task.latent_stride;
    const float* rope = task.rope + row * task.rope_stride;
    if (pages.dtype == device::DType::BF16) {
      auto* out = reinterpret_cast<device::BF16*>(page) + line;
      for (std::int64_t i = 0; i < pages.latent; ++i) {
        out[i] = device::float_to_bf16(latent[i]);
      }
      out += pages.latent;
      for (std::int64_t i = 0; i < pages.rope; ++i) {
        out[i] = device::float_to_bf16(rope[i]);
      }
    } else {
      auto* out = reinterpret_cast<float*>(page) + line;
      std::copy_n(latent, pages.latent, out);
      std::copy_n(rope, pages.rope, out + pages.latent);
    }
  });
}

std::size_t latent_attention_scratch(
    int workers,
    std::int64_t rows,
    std::int64_t heads,
    std::int64_t latent,
    std::int64_t rope,
    std::int64_t context_tokens
) {
  const AttentionShape shape(heads, latent, rope, context_tokens);
  return AttentionPlan::scratch_floats(shape, rows, workers);
}

void latent_attention(const Context& context, const LatentAttentionTask& task) {
  if (task.rows.empty()) return;
  const device::DType dtype = task.pages.dtype;
  PLEIAD_CHECK(dtype == device::DType::F32 || dtype == device::DType::BF16);
  const AttentionShape shape(
      task.heads, task.pages.latent, task.pages.rope, longest_context(task.rows)
  );
  const AttentionPlan plan(shape, task.rows, context.pool->workers(), task.scratch);
  Walk(context, task, plan).run();
}

void latent_attention_reference(const LatentAttentionTask& task, Compute compute) {
  const std::int64_t latent = task.pages.latent;
  for (std::size_t row = 0; row < task.rows.size(); ++row) {
    for (std::int64_t head = 0; head < task.heads; ++head) {
      const std::vector<double> weights = reference_weights(task, row, head);
      float* out = task.out + (static_cast<std::int64_t>(row) * task.heads + head) * latent;
      for (std::int64_t d = 0; d < latent; ++d) {
        const double sum = weighted_sum(task.pages, task.rows[row], weights, d);
        out[d] = round_activation(static_cast<float>(sum), compute);
      }
    }
  }
}

}  // namespace pleiad::kernels
