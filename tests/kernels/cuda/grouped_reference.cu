#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "tests/kernels/cuda/grouped_reference.h"

namespace pleiad::kernels::cuda {
namespace {

constexpr int kThreads = 256;

unsigned blocks_of(std::int64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

__device__ std::int64_t thread_index() {
  return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

// In [0, 1), from the counter alone.
__device__ float uniform(std::uint64_t counter, std::uint32_t seed) {
  std::uint64_t x = counter * 0x9E3779B97F4A7C15ULL + seed * 0xD1B54A32D192ED03ULL;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return static_cast<float>((x >> 40U) & 0xFFFFFFU) * 0x1p-24F;
}

template <class Value>
__global__ void fill_kernel(Value* out, std::int64_t count, FloatRange range, std::uint32_t seed) {
  const std::int64_t i = thread_index();
  if (i >= count) return;
  out[i] =
      Value(range.low + (range.high - range.low) * uniform(static_cast<std::uint64_t>(i), seed));
}

template <class Value>
void fill(
    device::cuda::Stream& stream,
    void* out,
    std::int64_t count,
    const FloatRange& range,
    std::uint32_t seed
) {
  fill_kernel<<<blocks_of(count), kThreads, 0, stream.handle()>>>(
      static_cast<Value*>(out), count, range, seed
  );
  stream.launched("filling a test's values", 1, count);
}

__global__ void copy_rows_kernel(CopyRowsTask task) {
  const std::int64_t words = task.row_bytes / 4;
  const std::int64_t i = thread_index();
  if (i >= task.count * words) return;
  static_cast<std::uint32_t*>(task.out)[i] =
      static_cast<const std::uint32_t*>(task.rows)[task.index[i / words] * words + i % words];
}

__device__ long long nanoseconds() {
  long long now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void clock_kernel(double* gigahertz) {
  constexpr long long kSpan = 40000;
  const long long begin = nanoseconds();
  const long long first = clock64();
  long long end = begin;
  while (end - begin < kSpan)
    end = nanoseconds();
  *gigahertz = static_cast<double>(clock64() - first) / static_cast<double>(end - begin);
}

template <class Value>
__global__ void reference_kernel(GroupedReferenceTask task) {
  const std::int64_t i = thread_index();
  const std::int64_t outputs = task.shape.outputs;
  const std::int64_t inputs = task.shape.inputs;
  const std::int64_t row = i / outputs;
  const std::int64_t output = i % outputs;
  if (row >= task.starts[task.shape.experts]) return;
  std::int64_t expert = 0;
  while (task.starts[expert + 1] <= row)
    ++expert;
  const auto* w = static_cast<const Value*>(task.stored) + (expert * outputs + output) * inputs;
  const auto* x = static_cast<const Value*>(task.x) + row * inputs;
  double sum = 0.0;
  for (std::int64_t k = 0; k < inputs; ++k) {
    double product = double(float(w[k])) * double(float(x[k]));
    if (task.x_scales != nullptr) {
      const std::int64_t block =
          (expert * (outputs / 128) + output / 128) * (inputs / 128) + k / 128;
      product *= double(task.weight_scales[block]) *
                 double(task.x_scales[k / 128 * task.x_scale_stride + row]);
    }
    sum += product;
  }
  task.out[i] = sum;
}

}  // namespace

void fill_bf16(device::cuda::Stream& stream, void* out, std::int64_t count, std::uint32_t seed) {
  fill<__nv_bfloat16>(stream, out, count, {-1.0F, 1.0F}, seed);
}

void fill_fp8(device::cuda::Stream& stream, void* out, std::int64_t count, std::uint32_t seed) {
  fill<__nv_fp8_e4m3>(stream, out, count, {-1.0F, 1.0F}, seed);
}

void fill_floats(
    device::cuda::Stream& stream,
    float* out,
    std::int64_t count,
    const FloatRange& range,
    std::uint32_t seed
) {
  fill<float>(stream, out, count, range, seed);
}

void measure_clock(device::cuda::Stream& stream, double* gigahertz) {
  clock_kernel<<<1, 1, 0, stream.handle()>>>(gigahertz);
  stream.launched("measuring the clock", 1, 1);
}

void copy_rows(device::cuda::Stream& stream, const CopyRowsTask& task) {
  if (task.count == 0) return;
  copy_rows_kernel<<<blocks_of(task.count * task.row_bytes / 4), kThreads, 0, stream.handle()>>>(
      task
  );
  stream.launched("copying a test's rows", task.count, task.row_bytes);
}

void grouped_reference(device::cuda::Stream& stream, const GroupedReferenceTask& task) {
  const unsigned blocks = blocks_of(task.rows * task.shape.outputs);
  if (task.shape.format == GroupedFormat::BFloat16) {
    reference_kernel<__nv_bfloat16><<<blocks, kThreads, 0, stream.handle()>>>(task);
  } else {
    reference_kernel<__nv_fp8_e4m3><<<blocks, kThreads, 0, stream.handle()>>>(task);
  }
  stream.launched("grouped reference", task.rows, task.shape.outputs);
}

}  // namespace pleiad::kernels::cuda
