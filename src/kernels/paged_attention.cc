#include "kernels/paged_attention.h"

#include <algorithm>
#include <array>
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

// Tokens [begin, end) of a page.
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] bool empty() const { return begin >= end; }
  friend bool operator==(const TokenRange&, const TokenRange&) = default;
};

// What one worker computes with; pieces of the task's scratch.
struct Slot {
  float* q = nullptr;       // [pairs, key]
  float* keys = nullptr;    // PagePanels::keys
  float* values = nullptr;  // PagePanels::values
  float* scores = nullptr;  // [pairs, 64]
  float* states = nullptr;  // a stack of softmax states
};

// One call's walk over units. The order of additions for a row is set by its position alone:
// pages in order within a range of kRangePages, ranges along a binary tree over their numbers.
class Walk {
 public:
  Walk(const Context& context, const AttentionTask& task, const AttentionPlan& plan)
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

  // The tokens of a page that a row sees.
  [[nodiscard]] TokenRange visible(const AttentionUnit& unit, std::int64_t row, std::int64_t page)
      const {
    const std::int64_t position = task_.rows[static_cast<std::size_t>(unit.row + row)].position;
    const std::int64_t first = task_.window > 0 ? position + 1 - task_.window : 0;
    const auto within = [&](std::int64_t token) {
      return std::clamp<std::int64_t>(token - page * kPageTokens, 0, kPageTokens);
    };
    return {within(first), within(position + 1)};
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
    float* out = slot.q;
    for (std::int64_t row = unit.row; row < unit.row + unit.rows; ++row) {
      for (std::int64_t head = unit.head; head < unit.head + unit.heads; ++head) {
        for (const QueryPart& part : task_.query) {
          if (part.width == 0) continue;
          const float* q = part.x + row * part.row_stride + head * part.head_stride;
          std::memcpy(out, q, static_cast<std::size_t>(part.width) * sizeof(float));
          out += part.width;
        }
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
    // A state of no tokens has a maximum only.
    std::fill_n(state.maximum, pairs, -std::numeric_limits<float>::infinity());
    const std::int64_t begin = std::max(range * kRangePages, first_page(unit));
    const std::int64_t end = std::min((range + 1) * kRangePages, unit.pages);
    if (begin >= end) return;
    std::fill_n(state.total, pairs, 0.0F);
    std::fill_n(state.sum, pairs * state.width, 0.0F);
    for (std::int64_t page = begin; page < end; ++page) {
      run_page(slot, unit, page, state);
    }
  }

  // The first page that a row of the unit sees.
  [[nodiscard]] std::int64_t first_page(const AttentionUnit& unit) const {
    if (task_.window == 0) return 0;
    const std::int64_t position = task_.rows[static_cast<std::size_t>(unit.row)].position;
    return std::max<std::int64_t>(0, position + 1 - task_.window) / kPageTokens;
  }

  void run_page(
      const Slot& slot,
      const AttentionUnit& unit,
      std::int64_t page,
      const SoftmaxState& state
  ) const {
    // Rows before `first` end before the page, rows from `last` on have left it behind.
    std::int64_t first = 0;
    while (first < unit.rows && visible(unit, first, page).end == 0) {
      ++first;
    }
    std::int64_t last = unit.rows;
    while (last > first && visible(unit, last - 1, page).empty()) {
      --last;
    }
    if (first == last) return;
    const std::int64_t tokens = visible(unit, last - 1, page).end;
    load(slot, unit, page, tokens);
    score(slot, {first * unit.heads, last * unit.heads}, tokens);
    // Rows that see the same tokens, such as the whole page, go together.
    for (std::int64_t row = first; row < last;) {
      const TokenRange seen = visible(unit, row, page);
      std::int64_t end = row + 1;
      while (end < last && visible(unit, end, page) == seen) {
        ++end;
      }
      accumulate(slot, {row * unit.heads, end * unit.heads}, seen, state);
      row = end;
    }
  }

  // The keys and values of the unit's heads.
  void load(const Slot& slot, const AttentionUnit& unit, std::int64_t page, std::int64_t tokens)
      const {
    const AttentionPages& pages = task_.pages;
    const auto* table = task_.rows[static_cast<std::size_t>(unit.row)].page_table;
    const std::int64_t kv_head = unit.head / (task_.heads / pages.kv_heads);
    isa_.load_page({
        .page = pages.base + table[page] * pages.page_stride,
        .bf16 = pages.dtype == device::DType::BF16,
        .line = pages.line,
        .key_begin = pages.keys.offset + kv_head * pages.keys.width,
        .key_width = pages.keys.width,
        .value_begin = pages.values.offset + kv_head * pages.values.width,
        .value_width = pages.values.width,
        .tokens = tokens,
        .keys = slot.keys,
        .values = slot.values,
    });
  }

  struct PairRange {
    std::int64_t begin;
    std::int64_t end;
  };

  // scores = q . key for the first `tokens` tokens of the page, rounded up to whole panels.
  void score(const Slot& slot, PairRange pairs, std::int64_t tokens) const {
    const std::int64_t inputs = task_.pages.keys.width;
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

  // Works on scores and values from the first token seen on. Scores up to that many places past a
  // pair's own may be overwritten: those of the next pair that it does not see either.
  void accumulate(
      const Slot& slot,
      PairRange pairs,
      const TokenRange& seen,
      const SoftmaxState& state
  ) const {
    float* scores = slot.scores + pairs.begin * kPageTokens + seen.begin;
    const std::int64_t tokens = seen.end - seen.begin;
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
        .weight = reinterpret_cast<const std::byte*>(slot.values + seen.begin * kLanes),
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
    const std::int64_t width = task_.pages.values.width;
    for (std::int64_t pair = 0; pair < pairs_of(unit); ++pair) {
      const std::int64_t row = unit.row + pair / unit.heads;
      const std::int64_t head = unit.head + pair % unit.heads;
      isa_.scale_row({
          .x = state.sum + pair * state.width,
          .factor = normaliser(state.maximum[pair], state.total[pair], head),
          .count = width,
          .y = task_.out + (row * task_.heads + head) * width,
          .round = context_.compute == Compute::BFloat16,
      });
    }
  }

  // 1 / the softmax's denominator, relative to the pair's maximum or its sink, whichever is larger.
  [[nodiscard]] float normaliser(float maximum, float total, std::int64_t head) const {
    if (task_.sinks == nullptr) return 1.0F / total;
    const float sink = task_.sinks[head];
    const float top = std::max(maximum, sink);
    const std::array<float, 2> x = {maximum - top, sink - top};
    std::array<float, 2> e;
    isa_.exp(x.data(), 2, e.data());
    return e[0] / (total * e[0] + e[1]);
  }

  const Context& context_;
  const AttentionTask& task_;
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

// Element `index` of the line of a row's token, as a double.
double cached(
    const AttentionPages& pages,
    const AttentionRow& row,
    std::int64_t token,
    std::int64_t index
) {
  const std::byte* page = pages.base + row.page_table[token / kPageTokens] * pages.page_stride;
  const std::int64_t at = token % kPageTokens * pages.line + index;
  if (pages.dtype == device::DType::BF16) {
    return device::bf16_to_float(reinterpret_cast<const device::BF16*>(page)[at]);
  }
  return reinterpret_cast<const float*>(page)[at];
}

// The softmax of one row and head over the tokens up to its position, zero before its window.
std::vector<double>
reference_weights(const AttentionTask& task, std::size_t row, std::int64_t head) {
  const AttentionRow& at = task.rows[row];
  const AttentionPages& pages = task.pages;
  const std::int64_t kv_head = head / (task.heads / pages.kv_heads);
  std::vector<double> query;
  for (const QueryPart& part : task.query) {
    const float* q =
        part.x + static_cast<std::int64_t>(row) * part.row_stride + head * part.head_stride;
    query.insert(query.end(), q, q + part.width);
  }
  std::vector<double> weights(static_cast<std::size_t>(at.position + 1));
  const std::int64_t first =
      task.window > 0 ? std::max<std::int64_t>(0, at.position + 1 - task.window) : 0;
  const auto seen = std::span(weights).subspan(static_cast<std::size_t>(first));
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const std::int64_t key = pages.keys.offset + kv_head * pages.keys.width;
    for (std::size_t d = 0; d < query.size(); ++d) {
      const auto token = first + static_cast<std::int64_t>(i);
      seen[i] += query[d] * cached(pages, at, token, key + static_cast<std::int64_t>(d));
    }
    seen[i] *= task.scale;
  }
  double top = *std::max_element(seen.begin(), seen.end());
  if (task.sinks != nullptr) top = std::max<double>(top, task.sinks[head]);
  double total = task.sinks != nullptr ? std::exp(task.sinks[head] - top) : 0;
  for (double& weight : seen) {
    weight = std::exp(weight - top);
    total += weight;
  }
  for (double& weight : seen) {
    weight /= total;
  }
  return weights;
}

// Element `index` of the weighted sum of a row's tokens; those of no weight are not looked at.
double weighted_sum(
    const AttentionPages& pages,
    const AttentionRow& row,
    std::span<const double> weights,
    std::int64_t index
) {
  double sum = 0;
  for (std::size_t t = 0; t < weights.size(); ++t) {
    if (weights[t] == 0.0) continue;
    sum += weights[t] * cached(pages, row, static_cast<std::int64_t>(t), index);
  }
  return sum;
}

// Copies a row's part into the cache.
template <typename Element, typename Round>
void store_parts(const StoreLinesTask& task, std::int64_t row, Element* line, const Round& round) {
  for (const RowPart& part : task.parts) {
    if (part.width == 0) continue;
    const float* x = part.x + row * part.stride;
    line = std::transform(x, x + part.width, line, round);
  }
}

AttentionShape
shape_of(std::int64_t heads, const AttentionPages& pages, std::int64_t context_tokens) {
  return {heads, pages.kv_heads, pages.keys.width, pages.values.width, context_tokens};
}

}  // namespace

AttentionPages latent_pages(std::int64_t latent, std::int64_t rope) {
  return {
      .line = latent + rope,
      .keys = {.offset = 0, .width = latent + rope},
      .values = {.offset = 0, .width = latent}};
}

AttentionPages grouped_pages(std::int64_t kv_heads, std::int64_t key, std::int64_t value) {
  return {
      .line = kv_heads * (key + value),
      .kv_heads = kv_heads,
      .keys = {.offset = 0, .width = key},
      .values = {.offset = kv_heads * key, .width = value}};
}

void store_lines(const Context& context, const StoreLinesTask& task) {
  const AttentionPages& pages = task.pages;
  PLEIAD_CHECK(task.parts[0].width + task.parts[1].width == pages.line, "parts that fill a line");
  const auto rows = static_cast<std::int64_t>(task.rows.size());
  detail::for_rows(context, rows, pages.line, [&](std::int64_t row) {
    const AttentionRow& at = task.rows[static_cast<std::size_t>(row)];
    std::byte* page = pages.base + at.page_table[at.position / kPageTokens] * pages.page_stride;
    const std::int64_t line = at.position % kPageTokens * pages.line;
    if (pages.dtype == device::DType::BF16) {
      store_parts(task, row, reinterpret_cast<device::BF16*>(page) + line, [](float x) {
        return device::float_to_bf16(x);
      });
    } else {
      store_parts(task, row, reinterpret_cast<float*>(page) + line, [](float x) { return x; });
    }
  });
}

std::size_t paged_attention_scratch(
    int workers,
    std::int64_t rows,
    std::int64_t heads,
    const AttentionPages& pages,
    std::int64_t context_tokens
) {
  return AttentionPlan::scratch_floats(shape_of(heads, pages, context_tokens), rows, workers);
}

void paged_attention(const Context& context, const AttentionTask& task) {
  if (task.rows.empty()) return;
  const AttentionPages& pages = task.pages;
  PLEIAD_CHECK(pages.dtype == device::DType::F32 || pages.dtype == device::DType::BF16);
  PLEIAD_CHECK(task.heads % pages.kv_heads == 0);
  PLEIAD_CHECK(task.query[0].width + task.query[1].width == pages.keys.width);
  const AttentionShape shape = shape_of(task.heads, pages, longest_context(task.rows));
  const AttentionPlan plan(shape, task.rows, context.pool->workers(), task.scratch);
  Walk(context, task, plan).run();
}

void paged_attention_reference(const AttentionTask& task, Compute compute) {
  const AttentionPages& pages = task.pages;
  const std::int64_t width = pages.values.width;
  for (std::size_t row = 0; row < task.rows.size(); ++row) {
    for (std::int64_t head = 0; head < task.heads; ++head) {
      const std::int64_t value = pages.values.offset + head / (task.heads / pages.kv_heads) * width;
      const std::vector<double> weights = reference_weights(task, row, head);
      float* out = task.out + (static_cast<std::int64_t>(row) * task.heads + head) * width;
      for (std::int64_t d = 0; d < width; ++d) {
        const double sum = weighted_sum(pages, task.rows[row], weights, value + d);
        out[d] = round_activation(static_cast<float>(sum), compute);
      }
    }
  }
}

}  // namespace pleiad::kernels
