#pragma once

#include <cstdint>

#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/detail/hopper.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/detail/wgmma_bf16.cuh"

// The roles of a block of few_rows_gemm.h.
//
// A block computes out^T = W x^T for `height` outputs over all inputs, 128 bytes of each row a
// step. One thread feeds a ring of stages that holds as much of the matrix as fits, and begins with
// the matrix while the kernel before still makes the rows; a warpgroup multiplies. Where all of the
// block's part of the matrix fits, and the rows are at most eight, that warpgroup fetches the rows
// itself, all at once. The tensor cores take 64 outputs at a time: those past the height are
// computed from whatever lies behind the stage and go nowhere, and so do rows past the last.
namespace pleiad::kernels::cuda::hopper {

constexpr int kFewRowsInputs = 64;
constexpr int kFewRowsBytes = 128;
constexpr int kFewRowsCompute = 128;
constexpr int kFewRowsThreads = kFewRowsCompute + 32;
constexpr int kFewRowsHeightMax = 64;
constexpr int kFewRowsStagesMax = 64;

struct FewRowsArguments {
  std::int32_t outputs = 0;
  std::int32_t steps = 0;
  std::int32_t height = 0;
  std::int32_t stages = 0;
  std::int32_t rows = 0;
  std::int32_t weight_step = 0;  // rows
  std::int64_t x_step = 0;
  std::int64_t y_step = 0;
  const detail::BF16* x = nullptr;
  std::int64_t x_stride = 0;
  void* y = nullptr;
  std::int64_t y_stride = 0;
  bool holds_all = false;  // the matrix stays in the ring: there are as many stages as steps
};

// Shared memory behind the stages.
struct FewRowsControl {
  std::uint64_t full[kFewRowsStagesMax];
  std::uint64_t empty[kFewRowsStagesMax];
};
// What a product may read behind the last stage.
constexpr int kFewRowsSlackBytes = kFewRowsHeightMax * kFewRowsBytes;

__host__ __device__ constexpr int few_rows_stage_bytes(int height, int rows) {
  return (height + rows) * kFewRowsBytes;
}

// Where a thread stands in the ring.
struct FewRowsPlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ void next(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1U;
    }
  }
};

// A block's view of its ring.
template <int kRows>
struct FewRowsRing {
  const FewRowsArguments& arguments;
  std::uint32_t stages;  // shared addresses
  std::uint32_t control;

  __device__ std::uint32_t weights_at(int stage) const {
    return stages +
           static_cast<std::uint32_t>(stage * few_rows_stage_bytes(arguments.height, kRows));
  }
  __device__ std::uint32_t rows_at(int stage) const {
    return weights_at(stage) + static_cast<std::uint32_t>(arguments.height * kFewRowsBytes);
  }
  __device__ std::uint32_t full_at(int stage) const {
    return control + static_cast<std::uint32_t>(stage) * 8;
  }
  __device__ std::uint32_t empty_at(int stage) const {
    return full_at(stage) + static_cast<std::uint32_t>(sizeof(FewRowsControl::full));
  }
};

// Where the block's matrix begins, in rows of the stored weights.
__device__ inline std::int32_t first_weight_row(const FewRowsArguments& a) {
  return static_cast<std::int32_t>(blockIdx.y) * a.weight_step +
         static_cast<std::int32_t>(blockIdx.x) * a.height;
}

template <int kRows>
__device__ void
feed_few(const FewRowsRing<kRows>& ring, const CUtensorMap& weights, const CUtensorMap& rows) {
  const FewRowsArguments& a = ring.arguments;
  const std::int32_t first = first_weight_row(a);
  const auto column = static_cast<std::int32_t>(blockIdx.y * a.x_step);
  const auto bytes =
      static_cast<std::uint32_t>(few_rows_stage_bytes(a.height, a.holds_all ? 0 : kRows));
  const auto fetch_weights = [&](std::int32_t step, int stage) {
    barrier_arrive_expect(ring.full_at(stage), bytes);
    copy_box(ring.weights_at(stage), &weights, step * kFewRowsInputs, first, ring.full_at(stage));
  };
  const auto fetch_rows = [&](std::int32_t step, int stage) {
    copy_box(ring.rows_at(stage), &rows, column + step * kFewRowsInputs, 0, ring.full_at(stage));
  };
  const std::int32_t early = min(a.stages, a.steps);
  for (std::int32_t step = 0; step < early; ++step) {
    fetch_weights(step, step);
  }
  if (a.holds_all) return;
  detail::wait_for_earlier_work();
  for (std::int32_t step = 0; step < early; ++step) {
    fetch_rows(step, step);
  }
  FewRowsPlace place{.stage = early % a.stages, .parity = early == a.stages ? 1U : 0U};
  for (std::int32_t step = early; step < a.steps; ++step) {
    barrier_wait(ring.empty_at(place.stage), place.parity ^ 1U);
    fetch_weights(step, place.stage);
    fetch_rows(step, place.stage);
    place.next(a.stages);
  }
}

// The rows' places in all stages, filled by the warpgroup that multiplies: 16 bytes at a time, in
// the order that 128-byte swizzling gives them.
template <int kRows>
__device__ void fetch_all_rows(const FewRowsRing<kRows>& ring) {
  const FewRowsArguments& a = ring.arguments;
  constexpr int kPieces = kFewRowsBytes / 16;
  const detail::BF16* x = a.x + static_cast<std::int64_t>(blockIdx.y) * a.x_step;
  detail::wait_for_earlier_work();
  for (int row = 0; row < a.rows; ++row) {
#pragma unroll 4
    for (int piece = static_cast<int>(threadIdx.x); piece < a.steps * kPieces;
         piece += kFewRowsCompute) {
      const int place = piece % kPieces ^ row % 8;
      const std::uint32_t to = ring.rows_at(piece / kPieces) +
                               static_cast<std::uint32_t>(row * kFewRowsBytes + place * 16);
      copy_async<16>(to, x + row * a.x_stride + piece * 8);
    }
  }
  copy_async_commit();
  copy_async_wait<0>();
  fence_async_proxy();
  named_sync(1, kFewRowsCompute);
}

template <int kRows>
__device__ void add_step(const FewRowsRing<kRows>& ring, int stage, float (&sums)[kRows / 2]) {
  const std::uint64_t left = operand(ring.weights_at(stage));
  const std::uint64_t right = operand(ring.rows_at(stage));
  wgmma_fence();
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const std::uint64_t along = 2 * static_cast<std::uint64_t>(part);
    Bf16Product<kRows>::add(sums, left + along, right + along);
  }
  wgmma_commit();
}

// multiply_few() where nothing in the ring is ever replaced.
template <int kRows>
__device__ void multiply_held(const FewRowsRing<kRows>& ring, float (&sums)[kRows / 2]) {
  fetch_all_rows(ring);
  for (std::int32_t step = 0; step < ring.arguments.steps; ++step) {
    barrier_wait(ring.full_at(step), 0);
    add_step(ring, step, sums);
  }
  wgmma_wait<0>();
  hold(sums);
}

template <int kRows>
__device__ void multiply_few(const FewRowsRing<kRows>& ring, float (&sums)[kRows / 2]) {
  FewRowsPlace place;
  int previous = 0;
  const auto release = [&](int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(ring.empty_at(stage));
  };
  for (std::int32_t step = 0; step < ring.arguments.steps; ++step) {
    barrier_wait(ring.full_at(place.stage), place.parity);
    add_step(ring, place.stage, sums);
    if (step > 0) {
      wgmma_wait<1>();
      release(previous);
    }
    previous = place.stage;
    place.next(ring.arguments.stages);
  }
  wgmma_wait<0>();
  hold(sums);
}

// Where a thread's sums belong: wgmma_bf16.cuh.
template <int kRows, typename Y>
__device__ void store_few(const FewRowsArguments& a, const float (&sums)[kRows / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Y* y = static_cast<Y*>(a.y) + static_cast<std::int64_t>(blockIdx.y) * a.y_step;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const int in_tile = 16 * warp + lane / 4 + 8 * (part / 2);
      const int output = static_cast<int>(blockIdx.x) * a.height + in_tile;
      const int row = 8 * j + 2 * (lane % 4) + part % 2;
      if (in_tile >= a.height || output >= a.outputs || row >= a.rows) continue;
      y[row * a.y_stride + output] = detail::from_float<Y>(sums[4 * j + part]);
    }
  }
}

}  // namespace pleiad::kernels::cuda::hopper
