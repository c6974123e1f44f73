#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "bench/kernels/machine.h"
#include "device/buffer.h"
#include "kernels/latent_attention.h"

// Latent attention in decode (one row per sequence) and prefill (a chunk of rows of one sequence):
// operations per second, 2 * (2 * latent + rope) per token seen, row and head, against the peak of
// multiply-adds measured beside it.
namespace pleiad::bench {
namespace {

using kernels::AttentionRow;
using kernels::Compute;
using kernels::kPageTokens;

// Arguments: rows, heads, latent, rope, context, bf16. The rows are the last of the context.
void attention(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t heads = state.range(1);
  const std::int64_t latent = state.range(2);
  const std::int64_t rope = state.range(3);
  const std::int64_t context_tokens = state.range(4);
  const bool bf16 = state.range(5) != 0;
  device::ThreadPool& pool = shared_pool();

  const std::int64_t page_count = (context_tokens + kPageTokens - 1) / kPageTokens;
  std::vector<std::uint32_t> table(static_cast<std::size_t>(page_count));
  std::iota(table.begin(), table.end(), 0U);
  const std::size_t page_bytes =
      static_cast<std::size_t>(kPageTokens * (latent + rope)) * (bf16 ? 2 : 4);
  device::Buffer memory = device::Buffer::allocate(page_bytes * table.size()).value();
  const kernels::LatentPages pages = {
      memory.data(), page_bytes, bf16 ? device::DType::BF16 : device::DType::F32, latent, rope};

  Random random(1);
  const auto floats = [&](std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) {
      value = static_cast<float>(random.uniform() - 0.5);
    }
    return values;
  };
  std::vector<AttentionRow> all;
  for (std::int64_t t = 0; t < context_tokens; ++t) {
    all.push_back({table.data(), t});
  }
  const kernels::Context context = {
      &pool, device::detect_cpu_isa(), bf16 ? Compute::BFloat16 : Compute::Float32};
  const auto lines = floats(context_tokens * (latent + rope));
  kernels::store_latent(
      context,
      {.latent = lines.data(),
       .latent_stride = latent + rope,
       .rope = lines.data() + latent,
       .rope_stride = latent + rope,
       .rows = all,
       .pages = pages}
  );

  const auto q_latent = floats(rows * heads * latent);
  const auto q_rope = floats(rows * heads * rope);
  std::vector<float> out(q_latent.size());
  std::vector<float> scratch(
      kernels::latent_attention_scratch(pool.workers(), rows, heads, latent, rope, context_tokens)
  );
  const kernels::LatentAttentionTask task = {
      .q_latent = q_latent.data(),
      .q_rope = q_rope.data(),
      .q_rope_row_stride = heads * rope,
      .q_rope_head_stride = rope,
      .rows = std::span(all).last(static_cast<std::size_t>(rows)),
      .heads = heads,
      .scale = 0.1F,
      .pages = pages,
      .out = out.data(),
      .scratch = scratch,
  };
  const double peak = fma_peak(pool);

  for (auto _ : state) {
    kernels::latent_attention(context, task);
  }

  double seen = 0;
  for (const AttentionRow& row : task.rows) {
    seen += static_cast<double>(row.position + 1);
  }
  const double operations = 2.0 * seen * static_cast<double>(heads * (2 * latent + rope));
  const double total = operations * static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(total * 1e-9, Counter::kIsRate);
  if (peak > 0) state.counters["of_peak"] = Counter(total / peak, Counter::kIsRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "heads", "latent", "rope", "context", "bf16"});
  for (const std::int64_t bf16 : {0, 1}) {
    bench->Args({1, 128, 512, 64, 8192, bf16});
    bench->Args({512, 16, 256, 32, 512, bf16});
    bench->Args({512, 16, 256, 32, 4096, bf16});
    bench->Args({1, 8, 64, 16, 40, bf16});
    bench->Args({1, 8, 64, 16, 1000, bf16});
  }
}

BENCHMARK(attention)->Apply(shapes)->UseRealTime()->MinTime(0.2);

}  // namespace
}  // namespace pleiad::bench
