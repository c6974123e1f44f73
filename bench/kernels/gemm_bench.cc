#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "bench/kernels/machine.h"
#include "device/buffer.h"
#include "kernels/gemm.h"

// Products of decode (few rows: bytes of weights per second against the read bandwidth) and of
// prefill (many rows: operations per second against the peak of multiply-adds), both measured
// beside them.
namespace pleiad::bench {
namespace {

using kernels::Compute;
using kernels::GemmTask;
using kernels::MatrixSource;
using kernels::PackedMatrix;

// `copies` matrices of one shape, so that together they can exceed the caches.
struct Weights {
  device::Buffer memory;
  std::vector<PackedMatrix> matrices;
};

Weights
random_weights(std::int64_t outputs, std::int64_t inputs, Compute compute, std::size_t copies) {
  Random random(1);
  std::vector<float> values(static_cast<std::size_t>(outputs * inputs));
  for (float& value : values) {
    value = static_cast<float>(random.uniform() - 0.5);
  }
  const MatrixSource source = {
      .tensor = {
          .bytes = std::as_bytes(std::span(values)),
          .dtype = device::DType::F32,
          .shape = {.extents = {outputs, inputs}, .rank = 2},
      }};
  const std::size_t bytes = PackedMatrix::bytes(outputs, inputs, compute);
  Weights weights;
  weights.memory = device::Buffer::allocate(bytes * copies).value();
  for (std::size_t i = 0; i < copies; ++i) {
    const auto slice = weights.memory.as<std::byte>().subspan(i * bytes, bytes);
    weights.matrices.push_back(PackedMatrix::pack({&source, 1}, compute, slice).value());
  }
  return weights;
}

kernels::Context best_context(Compute compute) {
  return {.pool = &shared_pool(), .isa = device::detect_cpu_isa(), .compute = compute};
}

// Arguments: rows, outputs, inputs, bf16, copies. Each iteration takes the next copy.
void gemm_shape(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t outputs = state.range(1);
  const std::int64_t inputs = state.range(2);
  const Compute compute = state.range(3) != 0 ? Compute::BFloat16 : Compute::Float32;
  const Weights weights =
      random_weights(outputs, inputs, compute, static_cast<std::size_t>(state.range(4)));
  const std::vector<float> x(static_cast<std::size_t>(rows * inputs), 0.5F);
  std::vector<float> y(static_cast<std::size_t>(rows * outputs));
  const kernels::Context context = best_context(compute);
  const double bandwidth = read_bandwidth(*context.pool);
  const double peak = fma_peak(*context.pool);

  std::size_t next = 0;
  for (auto _ : state) {
    const GemmTask task = {
        .x = x.data(),
        .x_stride = inputs,
        .rows = rows,
        .weight = &weights.matrices[next % weights.matrices.size()],
        .y = y.data(),
        .y_stride = outputs,
    };
    kernels::gemm(context, task);
    ++next;
  }

  const auto runs = static_cast<double>(state.iterations());
  const auto bytes = static_cast<double>(PackedMatrix::bytes(outputs, inputs, compute));
  const double operations = 2.0 * static_cast<double>(rows * outputs * inputs);
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(runs * bytes * 1e-9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(runs * operations * 1e-9, Counter::kIsRate);
  if (bandwidth > 0) {
    state.counters["of_bandwidth"] = Counter(runs * bytes / bandwidth, Counter::kIsRate);
    state.counters["of_peak"] = Counter(runs * operations / peak, Counter::kIsRate);
  }
}

// Weights of 256 MiB in all: every product reads memory, not caches.
void decode_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "outputs", "inputs", "bf16", "copies"});
  for (const std::int64_t bf16 : {0, 1}) {
    const std::int64_t copies = bf16 != 0 ? 48 : 24;
    for (const std::int64_t rows : {1, 2, 4, 8}) {
      bench->Args({rows, 3072, 1024, bf16, copies});
    }
    bench->Args({1, 7168, 18432, bf16, 1});
    bench->Args({1, 16384, 2048, bf16, copies / 12});
  }
}

void prefill_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "outputs", "inputs", "bf16", "copies"});
  for (const std::int64_t bf16 : {0, 1}) {
    bench->Args({16, 3072, 1024, bf16, 1});
    bench->Args({64, 3072, 1024, bf16, 1});
    bench->Args({512, 3072, 1024, bf16, 1});
    bench->Args({512, 2048, 7168, bf16, 1});
  }
}

// One token's experts in the bundled model: 4 of 64 x 256, in the cache.
void small_experts(benchmark::State& state) {
  const Compute compute = Compute::BFloat16;
  const Weights weights = random_weights(128, 256, compute, 4);
  const std::vector<float> x(256, 0.5F);
  std::vector<float> y(4 * 128);
  const kernels::Context context = best_context(compute);
  std::vector<GemmTask> tasks;
  for (std::size_t i = 0; i < 4; ++i) {
    tasks.push_back(
        {.x = x.data(),
         .x_stride = 256,
         .rows = 1,
         .weight = &weights.matrices[i],
         .y = y.data() + 128 * i,
         .y_stride = 128}
    );
  }
  for (auto _ : state) {
    kernels::grouped_gemm(context, tasks);
  }
}

BENCHMARK(gemm_shape)->Name("gemm/decode")->Apply(decode_shapes)->UseRealTime()->MinTime(0.2);
BENCHMARK(gemm_shape)->Name("gemm/prefill")->Apply(prefill_shapes)->UseRealTime()->MinTime(0.2);
BENCHMARK(small_experts)->Name("gemm/small_experts")->UseRealTime()->MinTime(0.1);

}  // namespace
}  // namespace pleiad::bench
