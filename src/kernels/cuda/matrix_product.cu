#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/detail/stored_weight.cuh"
#include "kernels/cuda/matrix_product.h"

// y[r, o] = bias[o] + sum over i of x[r, i] * W[o, i]. A block makes kRows x kOutputs elements,
// each by one thread in one chain; inputs pass through shared memory in slabs of kSlab. Weights are
// decoded into the slab, once for the block's rows. Meant to be right for all; the roof is the FMA
// rate of fp32, a fifteenth of the tensor cores'.
namespace pleiad::kernels::cuda {
namespace {

using detail::BF16;
using detail::blocks_for;
using detail::to_float;
using device::DType;

constexpr int kRows = 16;
constexpr int kOutputs = 64;
constexpr int kSlab = 32;
constexpr int kThreads = 256;
constexpr int kPerThread = kOutputs / (kThreads / kRows);  // outputs of a thread

// One shape of arguments for the three kinds of tasks; what a kind does not have is null.
struct ProductArgs {
  DeviceRows x;
  const std::int32_t* x_rows;
  std::int64_t x_step;
  std::int64_t rows;
  DeviceMatrix weight;
  const DeviceMatrix* weights;  // [experts] or [count]
  const std::int32_t* starts;   // [experts + 1]
  std::int64_t experts;
  const float* bias;
  DeviceRows y;
  std::int64_t y_step;
  std::int64_t partial_sums;
};

// The rows and the matrix that a block works on.
struct Tile {
  std::int64_t line = 0;  // first of its rows
  std::int64_t rows = 0;  // at most kRows; 0: nothing to do
  std::int64_t matrix = 0;
};

__device__ float element(const DeviceRows& rows, std::int64_t index) {
  if (rows.dtype == DType::F32) return static_cast<const float*>(rows.data)[index];
  return to_float(static_cast<const BF16*>(rows.data)[index]);
}

__device__ void put(const DeviceRows& rows, std::int64_t index, float value) {
  if (rows.dtype == DType::F32) {
    static_cast<float*>(rows.data)[index] = value;
  } else {
    static_cast<BF16*>(rows.data)[index] = detail::from_float<BF16>(value);
  }
}

// Tile `index` of those that cover each expert's lines, expert by expert. One warp looks for it.
__device__ Tile find_tile(const ProductArgs& args, std::int64_t index) {
  std::int64_t before = 0;
  const int lane = static_cast<int>(threadIdx.x % detail::kWarp);
  for (std::int64_t first = 0; first < args.experts; first += detail::kWarp) {
    const std::int64_t expert = first + lane;
    const bool real = expert < args.experts;
    const int begin = real ? args.starts[expert] : 0;
    const int lines = real ? args.starts[expert + 1] - begin : 0;
    const int tiles = (lines + kRows - 1) / kRows;
    int end = tiles;
    for (int distance = 1; distance < static_cast<int>(detail::kWarp); distance *= 2) {
      const int other = __shfl_up_sync(detail::kAllLanes, end, distance);
      if (lane >= distance) end += other;
    }
    const std::int64_t at = index - before - (end - tiles);
    const bool mine = at >= 0 && at < tiles;
    const unsigned found = __ballot_sync(detail::kAllLanes, mine);
    if (found != 0) {
      const int owner = __ffs(static_cast<int>(found)) - 1;
      const int tile = __shfl_sync(detail::kAllLanes, static_cast<int>(at), owner);
      const int start = __shfl_sync(detail::kAllLanes, begin, owner);
      const int count = __shfl_sync(detail::kAllLanes, lines, owner);
      const int left = count - tile * kRows;
      return {
          .line = start + tile * kRows,
          .rows = left < kRows ? left : kRows,
          .matrix = first + owner,
      };
    }
    before += __shfl_sync(detail::kAllLanes, end, detail::kWarp - 1);
  }
  return {};
}

__device__ Tile tile_of(const ProductArgs& args) {
  if (args.starts != nullptr) return find_tile(args, blockIdx.y);
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.y) * kRows;
  const std::int64_t left = args.rows - line;
  return {.line = line, .rows = left < kRows ? left : kRows, .matrix = blockIdx.z};
}

// What the threads of a block share.
struct Slab {
  float x[kRows][kSlab + 1];
  float weight[kOutputs][kSlab + 1];
};

// The part's inputs [first, first + kSlab), zeros behind `end`.
template <typename Stored>
__device__ void load_slab(
    const ProductArgs& args,
    const DeviceMatrix& weight,
    const Tile& tile,
    std::int64_t first,
    std::int64_t end,
    Slab& slab
) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int at = thread; at < kRows * kSlab; at += kThreads) {
    const int row = at / kSlab;
    const std::int64_t input = first + at % kSlab;
    float value = 0.0F;
    if (row < tile.rows && input < end) {
      const std::int64_t line = tile.line + row;
      const std::int64_t source = args.x_rows == nullptr ? line : args.x_rows[line];
      value = element(args.x, source * args.x.stride + tile.matrix * args.x_step + input);
    }
    slab.x[row][at % kSlab] = value;
  }
  for (int at = thread; at < kOutputs * kSlab; at += kThreads) {
    const std::int64_t output = static_cast<std::int64_t>(blockIdx.x) * kOutputs + at / kSlab;
    const std::int64_t input = first + at % kSlab;
    const bool inside = output < weight.outputs && input < end;
    slab.weight[at / kSlab][at % kSlab] = inside ? Stored::weight(weight, output, input) : 0.0F;
  }
}

// A part's sums of a thread's outputs, in one chain each from `sums` on.
template <typename Stored>
__device__ void add_part(
    const ProductArgs& args,
    const DeviceMatrix& weight,
    const Tile& tile,
    std::int64_t part,
    Slab& slab,
    float (&sums)[kPerThread]
) {
  const std::int64_t inputs = weight.inputs / args.partial_sums;
  const std::int64_t end = (part + 1) * inputs;
  const int row = static_cast<int>(threadIdx.x) / (kThreads / kRows);
  const int column = static_cast<int>(threadIdx.x) % (kThreads / kRows);
  for (std::int64_t first = part * inputs; first < end; first += kSlab) {
    __syncthreads();
    load_slab<Stored>(args, weight, tile, first, end, slab);
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < kSlab; ++i) {
      const float x = slab.x[row][i];
      for (int j = 0; j < kPerThread; ++j) {
        sums[j] = fmaf(x, slab.weight[column + j * (kThreads / kRows)][i], sums[j]);
      }
    }
  }
}

// The bias of an output, where the first part's chain starts.
__device__ float
bias_of(const ProductArgs& args, const DeviceMatrix& weight, const Tile& tile, int j) {
  const int column = static_cast<int>(threadIdx.x) % (kThreads / kRows);
  const std::int64_t output =
      static_cast<std::int64_t>(blockIdx.x) * kOutputs + column + j * (kThreads / kRows);
  if (args.bias == nullptr || output >= weight.outputs) return 0.0F;
  return args.bias[(args.starts == nullptr ? 0 : tile.matrix * weight.outputs) + output];
}

__device__ void store_sums(
    const ProductArgs& args,
    const DeviceMatrix& weight,
    const Tile& tile,
    const float (&sums)[kPerThread]
) {
  const int row = static_cast<int>(threadIdx.x) / (kThreads / kRows);
  const int column = static_cast<int>(threadIdx.x) % (kThreads / kRows);
  if (row >= tile.rows) return;
  const std::int64_t line = (tile.line + row) * args.y.stride + tile.matrix * args.y_step;
  for (int j = 0; j < kPerThread; ++j) {
    const std::int64_t output =
        static_cast<std::int64_t>(blockIdx.x) * kOutputs + column + j * (kThreads / kRows);
    if (output < weight.outputs) put(args.y, line + output, sums[j]);
  }
}

// Adds the parts' sums pairwise: (p0 + p1) + (p2 + p3). `make(part, sums)` fills one part's.
template <typename Make>
__device__ void add_pairwise(std::int64_t parts, float (&total)[kPerThread], const Make& make) {
  float pair[kPerThread] = {};
  for (std::int64_t part = 0; part < parts; ++part) {
    float sums[kPerThread] = {};
    make(part, sums);
    for (int j = 0; j < kPerThread; ++j) {
      pair[j] = part % 2 == 0 ? sums[j] : pair[j] + sums[j];
      if (part == 1 || parts == 1) total[j] = pair[j];
      if (part == 3) total[j] += pair[j];
    }
  }
}

template <typename Stored>
__global__ void __launch_bounds__(kThreads) multiply(const ProductArgs args) {
  __shared__ Slab slab;
  const Tile tile = tile_of(args);
  if (tile.rows <= 0) return;
  const DeviceMatrix weight = args.weights == nullptr ? args.weight : args.weights[tile.matrix];
  float total[kPerThread] = {};
  add_pairwise(args.partial_sums, total, [&](std::int64_t part, float(&sums)[kPerThread]) {
    for (int j = 0; part == 0 && j < kPerThread; ++j) {
      sums[j] = bias_of(args, weight, tile, j);
    }
    add_part<Stored>(args, weight, tile, part, slab, sums);
  });
  store_sums(args, weight, tile, total);
}

// The largest magnitude of each row's part, to shared memory; infinity when something is not
// finite.
__device__ void find_largest(
    const ProductArgs& args,
    const Tile& tile,
    std::int64_t first,
    std::int64_t end,
    float (&largest)[kRows]
) {
  constexpr int kLanes = kThreads / kRows;
  const int row = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  float top = 0.0F;
  if (row < tile.rows) {
    const std::int64_t line = tile.line + row;
    const std::int64_t source = args.x_rows == nullptr ? line : args.x_rows[line];
    for (std::int64_t i = first + lane; i < end; i += kLanes) {
      const float value =
          fabsf(element(args.x, source * args.x.stride + tile.matrix * args.x_step + i));
      top = isfinite(value) ? fmaxf(top, value) : INFINITY;
    }
  }
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    top = fmaxf(top, __shfl_xor_sync(detail::kAllLanes, top, distance));
  }
  __syncthreads();
  if (lane == 0) largest[row] = top;
  __syncthreads();
}

// One part's sums of a thread's outputs with quantised rows.
__device__ void add_int8_part(
    const ProductArgs& args,
    const DeviceMatrix& weight,
    const Tile& tile,
    std::int64_t part,
    Slab& slab,
    float (&sums)[kPerThread]
) {
  __shared__ float largest[kRows];
  const std::int64_t inputs = weight.inputs / args.partial_sums;
  const std::int64_t first_input = part * inputs;
  const int row = static_cast<int>(threadIdx.x) / (kThreads / kRows);
  const int column = static_cast<int>(threadIdx.x) % (kThreads / kRows);
  find_largest(args, tile, first_input, first_input + inputs, largest);
  const float top = largest[row];
  const float scale = top < 0x1p-100F ? 0.0F : __fdiv_rn(top, 127.0F);
  int counts[kPerThread] = {};
  for (std::int64_t first = first_input; first < first_input + inputs; first += kSlab) {
    __syncthreads();
    load_slab<detail::Int8Weight>(args, weight, tile, first, first_input + inputs, slab);
    __syncthreads();
    for (int i = 0; i < kSlab; ++i) {
      const int q = scale > 0.0F ? __float2int_rn(__fdiv_rn(slab.x[row][i], scale)) : 0;
      for (int j = 0; j < kPerThread; ++j) {
        counts[j] += q * static_cast<int>(slab.weight[column + j * (kThreads / kRows)][i]);
      }
    }
  }
  for (int j = 0; j < kPerThread; ++j) {
    const std::int64_t output =
        static_cast<std::int64_t>(blockIdx.x) * kOutputs + column + j * (kThreads / kRows);
    if (output >= weight.outputs) continue;
    const float of_output = detail::scale_of(weight, output, 0);
    const float sum = static_cast<float>(counts[j]) * (scale * of_output) + sums[j];
    sums[j] = isinf(top) ? NAN : sum;
  }
}

__global__ void __launch_bounds__(kThreads) multiply_int8(const ProductArgs args) {
  __shared__ Slab slab;
  const Tile tile = tile_of(args);
  if (tile.rows <= 0) return;
  const DeviceMatrix weight = args.weights == nullptr ? args.weight : args.weights[tile.matrix];
  float total[kPerThread] = {};
  add_pairwise(args.partial_sums, total, [&](std::int64_t part, float(&sums)[kPerThread]) {
    for (int j = 0; part == 0 && j < kPerThread; ++j) {
      sums[j] = bias_of(args, weight, tile, j);
    }
    add_int8_part(args, weight, tile, part, slab, sums);
  });
  store_sums(args, weight, tile, total);
}

void launch(device::cuda::Stream& stream, const ProductArgs& args, dim3 grid) {
  PLEIAD_CHECK(args.partial_sums == 1 || args.partial_sums == 2 || args.partial_sums == 4);
  if (grid.y == 0 || args.weight.outputs == 0) return;
  const auto run = [&](auto kernel) { kernel<<<grid, kThreads, 0, stream.handle()>>>(args); };
  switch (args.weight.format) {
    case WeightFormat::Plain:
      if (args.weight.compute == Compute::Float32) {
        run(multiply<detail::FloatWeight>);
      } else {
        run(multiply<detail::BF16Weight>);
      }
      break;
    case WeightFormat::Fp8Block:
      run(multiply<detail::E4m3Weight>);
      break;
    case WeightFormat::Int8Channel:
      run(multiply_int8);
      break;
    case WeightFormat::Int4Group32:
      run(multiply<detail::Int4Weight>);
      break;
    case WeightFormat::MxFp4:
      run(multiply<detail::E2m1Weight>);
      break;
  }
  stream.launched("matrix_product", args.rows, args.weight.outputs);
}

}  // namespace

void matrix_product(device::cuda::Stream& stream, const MatrixProductTask& task) {
  const ProductArgs args{
      .x = task.x,
      .rows = task.rows,
      .weight = task.weight,
      .bias = task.bias,
      .y = task.y,
      .partial_sums = task.partial_sums,
  };
  launch(
      stream, args, {blocks_for(task.weight.outputs, kOutputs), blocks_for(task.rows, kRows), 1}
  );
}

void batched_product(device::cuda::Stream& stream, const BatchedProductTask& task) {
  const ProductArgs args{
      .x = task.x,
      .x_step = task.x_step,
      .rows = task.rows,
      .weight = task.like,
      .weights = task.weights,
      .y = task.y,
      .y_step = task.y_step,
      .partial_sums = 1,
  };
  launch(
      stream,
      args,
      {blocks_for(task.like.outputs, kOutputs),
       blocks_for(task.rows, kRows),
       static_cast<unsigned>(task.count)}
  );
}

void grouped_product(device::cuda::Stream& stream, const GroupedProductTask& task) {
  const ProductArgs args{
      .x = task.x,
      .x_rows = task.x_rows,
      .rows = task.lines_max,
      .weight = task.like,
      .weights = task.weights,
      .starts = task.starts,
      .experts = task.experts,
      .bias = task.bias,
      .y = task.y,
      .partial_sums = task.partial_sums,
  };
  // Every expert has at most one tile that is not full.
  const std::int64_t active = task.experts < task.lines_max ? task.experts : task.lines_max;
  const auto tiles = static_cast<unsigned>((task.lines_max - active) / kRows + active);
  launch(stream, args, {blocks_for(task.like.outputs, kOutputs), tiles, 1});
}

}  // namespace pleiad::kernels::cuda
