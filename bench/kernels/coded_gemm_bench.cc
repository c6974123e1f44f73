#include <array>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "bench/kernels/machine.h"
#include "device/buffer.h"
#include "kernels/gemm.h"

// Products with quantised weights: of one row (bytes of weights per second against the read
// bandwidth) and of many (operations per second against the peak of multiply-adds). BF16 weights
// of the same shape stand beside them.
namespace pleiad::bench {
namespace {

using device::DType;
using kernels::GemmTask;
using kernels::MatrixSource;
using kernels::PackedMatrix;
using kernels::WeightFormat;

// Stored weights [outputs, inputs] of any kind.
struct Stored {
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> scales;
  MatrixSource source;
};

// One scale in its type, small and alike everywhere.
constexpr std::uint8_t kPower = 120;                             // E8M0 2^-7
constexpr std::array<std::uint8_t, 4> kFloat = {0, 0, 0, 0x3C};  // F32 2^-7
constexpr std::array<std::uint8_t, 2> kBf16 = {0, 0x3C};

Stored stored(WeightFormat format, std::int64_t outputs, std::int64_t inputs) {
  Stored made;
  made.source.format = format;
  device::TensorView& tensor = made.source.tensor;
  device::TensorView& scales = made.source.scales;
  std::int64_t bits = 8;
  switch (format) {
    case WeightFormat::Plain:
      tensor = {.bytes = {}, .dtype = DType::BF16, .shape = {{outputs, inputs}, 2}};
      bits = 16;
      break;
    case WeightFormat::Fp8Block:
      tensor = {.bytes = {}, .dtype = DType::F8E4M3, .shape = {{outputs, inputs}, 2}};
      scales = {.bytes = {}, .dtype = DType::F32, .shape = {{outputs / 128, inputs / 128}, 2}};
      break;
    case WeightFormat::Int8Channel:
      tensor = {.bytes = {}, .dtype = DType::I8, .shape = {{outputs, inputs}, 2}};
      scales = {.bytes = {}, .dtype = DType::F32, .shape = {{outputs}, 1}};
      break;
    case WeightFormat::Int4Group32:
      tensor = {.bytes = {}, .dtype = DType::I32, .shape = {{outputs, inputs / 8}, 2}};
      scales = {.bytes = {}, .dtype = DType::BF16, .shape = {{outputs, inputs / 32}, 2}};
      bits = 4;
      break;
    case WeightFormat::MxFp4:
      tensor = {.bytes = {}, .dtype = DType::U8, .shape = {{outputs, inputs / 32, 16}, 3}};
      scales = {.bytes = {}, .dtype = DType::U8, .shape = {{outputs, inputs / 32}, 2}};
      bits = 4;
      break;
  }
  Random random(1);
  made.codes.resize(static_cast<std::size_t>(outputs * inputs * bits / 8));
  for (std::uint8_t& code : made.codes) {
    code = static_cast<std::uint8_t>(random.below(256));
    if (format == WeightFormat::Plain) code &= 0x3FU;
    // Subnormal codes are as rare in real weights as a largest weight of four deviations makes
    // them: one in 9000.
    if (format == WeightFormat::Fp8Block && (code & 0x78U) == 0) code |= 0x40U;
    if (format == WeightFormat::Fp8Block && (code & 0x7FU) == 0x7FU) code ^= 1U;
  }
  const std::int64_t count = format == WeightFormat::Plain ? 0 : scales.shape.elements();
  for (std::int64_t i = 0; i < count; ++i) {
    const bool powers = scales.dtype == DType::U8;
    const bool bf16 = scales.dtype == DType::BF16;
    if (powers) made.scales.push_back(kPower);
    if (bf16) made.scales.insert(made.scales.end(), kBf16.begin(), kBf16.end());
    if (!powers && !bf16) made.scales.insert(made.scales.end(), kFloat.begin(), kFloat.end());
  }
  tensor.bytes = std::as_bytes(std::span(made.codes));
  scales.bytes = std::as_bytes(std::span(made.scales));
  return made;
}

// Arguments: rows, outputs, inputs, format. Weights of 256 MiB in all for one row, so that every
// product reads memory, not caches.
void coded_gemm(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t outputs = state.range(1);
  const std::int64_t inputs = state.range(2);
  const auto format = static_cast<WeightFormat>(state.range(3));
  const Stored weights = stored(format, outputs, inputs);
  const std::span<const MatrixSource> sources(&weights.source, 1);
  const kernels::Compute compute = kernels::Compute::BFloat16;
  const std::size_t bytes = PackedMatrix::bytes(sources, compute).value();
  const std::size_t copies = rows == 1 ? (std::size_t{256} << 20U) / bytes : 1;
  device::Buffer memory = device::Buffer::allocate(bytes * copies).value();
  std::vector<PackedMatrix> matrices;
  for (std::size_t i = 0; i < copies; ++i) {
    const auto slice = memory.as<std::byte>().subspan(i * bytes, bytes);
    matrices.push_back(PackedMatrix::pack(sources, compute, slice).value());
  }
  const std::vector<float> x(static_cast<std::size_t>(rows * inputs), 0.5F);
  std::vector<float> y(static_cast<std::size_t>(rows * outputs));
  const kernels::Context context = {
      .pool = &shared_pool(), .isa = device::detect_cpu_isa(), .compute = compute};
  const double bandwidth = read_bandwidth(*context.pool);
  const double peak = fma_peak(*context.pool);

  std::size_t next = 0;
  for (auto _ : state) {
    const GemmTask task = {
        .x = x.data(),
        .x_stride = inputs,
        .rows = rows,
        .weight = &matrices[next++ % copies],
        .y = y.data(),
        .y_stride = outputs,
    };
    kernels::gemm(context, task);
  }

  const auto runs = static_cast<double>(state.iterations());
  const double operations = 2.0 * static_cast<double>(rows * outputs * inputs);
  using benchmark::Counter;
  state.SetLabel(std::string(kernels::to_string(format)));
  state.counters["GB/s"] = Counter(runs * static_cast<double>(bytes) * 1e-9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(runs * operations * 1e-9, Counter::kIsRate);
  if (bandwidth > 0) {
    state.counters["of_bandwidth"] =
        Counter(runs * static_cast<double>(bytes) / bandwidth, Counter::kIsRate);
    state.counters["of_peak"] = Counter(runs * operations / peak, Counter::kIsRate);
  }
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "outputs", "inputs", "format"});
  for (std::int64_t format = 0; format <= 4; ++format) {
    for (const std::int64_t rows : {1, 4, 64}) {
      bench->Args({rows, 4096, 7168, format});
    }
  }
}

BENCHMARK(coded_gemm)->Name("gemm/coded")->Apply(shapes)->UseRealTime()->MinTime(0.2);

}  // namespace
}  // namespace pleiad::bench
