#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "bench/kernels/machine.h"
#include "device/buffer.h"
#include "kernels/paged_attention.h"

// Latent and grouped-query attention in decode (one row per sequence) and prefill (a chunk of rows
// of one sequence): operations per second, 2 * (key + value) per token seen, row and head, against
// the peak of multiply-adds measured beside it.
namespace pleiad::bench {
namespace {

using kernels::AttentionRow;
using kernels::Compute;
using kernels::kPageTokens;

struct Shape {
  std::int64_t rows;
  std::int64_t heads;
  std::int64_t kv_heads;  // 0: latent attention
  std::int64_t value;     // or latent
  std::int64_t rope;      // elements of a key beyond the value's
  std::int64_t context;
  bool bf16;
};

std::vector<float> random_floats(std::int64_t count) {
  Random random(1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(random.uniform() - 0.5);
  }
  return values;
}

// One sequence's cache and the queries of its last rows.
class Scene {
 public:
  explicit Scene(const Shape& shape)
      : shape_(shape),
        context_{
            &shared_pool(),
            device::detect_cpu_isa(),
            shape.bf16 ? Compute::BFloat16 : Compute::Float32},
        table_(static_cast<std::size_t>((shape.context + kPageTokens - 1) / kPageTokens)),
        query_(random_floats(shape.rows * shape.heads * (shape.value + shape.rope))),
        out_(static_cast<std::size_t>(shape.rows * shape.heads * shape.value)),
        scratch_(kernels::paged_attention_scratch(
            shared_pool().workers(),
            shape.rows,
            shape.heads,
            widths(),
            shape.context
        )) {
    std::iota(table_.begin(), table_.end(), 0U);
    memory_ = device::Buffer::allocate(page_bytes() * table_.size()).value();
    rows_.reserve(static_cast<std::size_t>(shape.context));
    for (std::int64_t t = 0; t < shape.context; ++t) {
      rows_.push_back({table_.data(), t});
    }
    const std::int64_t line = widths().line;
    const auto lines = random_floats(shape.context * line);
    kernels::store_lines(
        context_,
        {.parts = {{{.x = lines.data(), .stride = line, .width = line}, {}}},
         .rows = rows_,
         .pages = pages()}
    );
  }

  void attend() {
    const std::int64_t key = shape_.value + shape_.rope;
    kernels::paged_attention(
        context_,
        {.query =
             {{{.x = query_.data(),
                .row_stride = shape_.heads * key,
                .head_stride = key,
                .width = key},
               {}}},
         .rows = std::span(rows_).last(static_cast<std::size_t>(shape_.rows)),
         .heads = shape_.heads,
         .scale = 0.1F,
         .pages = pages(),
         .out = out_.data(),
         .scratch = scratch_}
    );
  }

  // Of one attend().
  [[nodiscard]] double operations() const {
    const auto rows = static_cast<double>(shape_.rows);
    const double seen = rows * static_cast<double>(shape_.context) - rows * (rows - 1) / 2;
    return 2.0 * seen * static_cast<double>(shape_.heads * (2 * shape_.value + shape_.rope));
  }

 private:
  [[nodiscard]] std::size_t page_bytes() const {
    const auto line = static_cast<std::size_t>(widths().line);
    return static_cast<std::size_t>(kPageTokens) * line * (shape_.bf16 ? 2 : 4);
  }
  [[nodiscard]] kernels::AttentionPages widths() const {
    if (shape_.kv_heads == 0) return kernels::latent_pages(shape_.value, shape_.rope);
    return kernels::grouped_pages(shape_.kv_heads, shape_.value + shape_.rope, shape_.value);
  }
  kernels::AttentionPages pages() {
    kernels::AttentionPages pages = widths();
    pages.base = memory_.data();
    pages.page_stride = page_bytes();
    pages.dtype = shape_.bf16 ? device::DType::BF16 : device::DType::F32;
    return pages;
  }

  Shape shape_;
  kernels::Context context_;
  std::vector<std::uint32_t> table_;
  device::Buffer memory_;
  std::vector<AttentionRow> rows_;
  std::vector<float> query_;
  std::vector<float> out_;
  std::vector<float> scratch_;
};

// Arguments: the members of Shape.
void attention(benchmark::State& state) {
  Scene scene(
      {state.range(0),
       state.range(1),
       state.range(2),
       state.range(3),
       state.range(4),
       state.range(5),
       state.range(6) != 0}
  );
  const double peak = fma_peak(shared_pool());

  for (auto _ : state) {
    scene.attend();
  }

  const double total = scene.operations() * static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(total * 1e-9, Counter::kIsRate);
  if (peak > 0) state.counters["of_peak"] = Counter(total / peak, Counter::kIsRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "heads", "kv_heads", "value", "rope", "context", "bf16"});
  for (const std::int64_t bf16 : {0, 1}) {
    bench->Args({1, 128, 0, 512, 64, 8192, bf16});
    bench->Args({512, 16, 0, 256, 32, 512, bf16});
    bench->Args({512, 16, 0, 256, 32, 4096, bf16});
    bench->Args({1, 8, 0, 64, 16, 40, bf16});
    bench->Args({1, 8, 0, 64, 16, 1000, bf16});
    bench->Args({1, 32, 4, 128, 0, 8192, bf16});
    bench->Args({512, 32, 4, 128, 0, 4096, bf16});
  }
}

BENCHMARK(attention)->Apply(shapes)->UseRealTime()->MinTime(0.2);

}  // namespace
}  // namespace pleiad::bench
