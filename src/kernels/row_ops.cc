#include "kernels/row_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/detail/isa_kernels.h"
#include "kernels/detail/row_blocks.h"

namespace pleiad::kernels {
namespace {

using device::DType;

void embed_row(const device::TensorView& table, std::int64_t line, float* y) {
  const std::int64_t width = table.shape[1];
  const std::size_t element = device::size_of(table.dtype);
  const std::byte* from = table.bytes.data() + static_cast<std::size_t>(line * width) * element;
  if (table.dtype == DType::F32) {
    std::memcpy(y, from, static_cast<std::size_t>(width) * element);
    return;
  }
  for (std::int64_t i = 0; i < width; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + i * 2, sizeof(bits));
    y[i] = table.dtype == DType::BF16 ? device::bf16_to_float(bits) : device::f16_to_float(bits);
  }
}

}  // namespace

void rms_norm(const Context& context, const RmsNormTask& task) {
  const auto& isa = detail::kernels_of(context.isa);
  detail::for_rows(context, task.rows * task.heads, task.width, [&](std::int64_t index) {
    const std::int64_t row = index / task.heads;
    const std::int64_t first = index % task.heads * task.width;
    const float* x = task.x + row * task.x_stride + first;
    const float mean = isa.sum_of_squares(x, task.width) / static_cast<float>(task.width);
    isa.scale_row({
        .x = x,
        .weight = task.weight,
        .factor = 1.0F / std::sqrt(mean + task.epsilon),
        .count = task.width,
        .y = task.y + row * task.y_stride + first,
        .round = context.compute == Compute::BFloat16,
    });
  });
}

void rms_norm_reference(Compute compute, const RmsNormTask& task) {
  for (std::int64_t index = 0; index < task.rows * task.heads; ++index) {
    const std::int64_t row = index / task.heads;
    const std::int64_t first = index % task.heads * task.width;
    const float* x = task.x + row * task.x_stride + first;
    float* y = task.y + row * task.y_stride + first;
    double sum = 0;
    for (std::int64_t i = 0; i < task.width; ++i) {
      sum += static_cast<double>(x[i]) * x[i];
    }
    const double root = std::sqrt(sum / static_cast<double>(task.width) + task.epsilon);
    for (std::int64_t i = 0; i < task.width; ++i) {
      y[i] = round_activation(static_cast<float>(x[i] / root * task.weight[i]), compute);
    }
  }
}

void silu_mul(const Context& context, const SiluMulTask& task) {
  const auto& isa = detail::kernels_of(context.isa);
  detail::for_rows(context, task.rows, task.width * 4, [&](std::int64_t row) {
    const float* gate = task.gate_up + row * 2 * task.width;
    isa.silu_mul({
        .gate = gate,
        .up = gate + task.width,
        .count = task.width,
        .y = task.y + row * task.width,
        .round = context.compute == Compute::BFloat16,
    });
  });
}

void silu_mul_reference(Compute compute, const SiluMulTask& task) {
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const float* gate = task.gate_up + row * 2 * task.width;
    for (std::int64_t i = 0; i < task.width; ++i) {
      const double g = gate[i];
      const double y = g / (1 + std::exp(-g)) * gate[task.width + i];
      task.y[row * task.width + i] = round_activation(static_cast<float>(y), compute);
    }
  }
}

void clamped_swiglu(const Context& context, const ClampedSwigluTask& task) {
  const auto& isa = detail::kernels_of(context.isa);
  detail::for_rows(context, task.rows, task.width * 4, [&](std::int64_t row) {
    const float* gate = task.gate_up + row * 2 * task.width;
    isa.clamped_swiglu(
        {
            .gate = gate,
            .up = gate + task.width,
            .count = task.width,
            .y = task.y + row * task.width,
            .round = context.compute == Compute::BFloat16,
        },
        task.limit
    );
  });
}

void clamped_swiglu_reference(Compute compute, const ClampedSwigluTask& task) {
  const double limit = task.limit;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const float* gate = task.gate_up + row * 2 * task.width;
    for (std::int64_t i = 0; i < task.width; ++i) {
      const double g = std::min<double>(gate[i], limit);
      const double u = std::clamp<double>(gate[task.width + i], -limit, limit);
      const double y = g / (1 + std::exp(-1.702 * g)) * (u + 1);
      task.y[row * task.width + i] = round_activation(static_cast<float>(y), compute);
    }
  }
}

void add_rows(const Context& context, const float* x, std::int64_t count, float* residual) {
  const auto& isa = detail::kernels_of(context.isa);
  constexpr std::int64_t kBlock = 4096;
  detail::for_rows(context, (count + kBlock - 1) / kBlock, kBlock, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock;
    isa.add(x + begin, std::min(kBlock, count - begin), residual + begin);
  });
}

void embed_rows(const Context& context, const EmbeddingTask& task) {
  const DType dtype = task.table.dtype;
  PLEIAD_CHECK(dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16);
  PLEIAD_CHECK(task.table.shape.rank == 2);
  const std::int64_t width = task.table.shape[1];
  const auto rows = static_cast<std::int64_t>(task.ids.size());
  detail::for_rows(context, rows, width, [&](std::int64_t row) {
    const std::int64_t line = task.ids[static_cast<std::size_t>(row)];
    PLEIAD_CHECK(line < task.table.shape[0], "token id below the vocabulary");
    embed_row(task.table, line, task.y + row * width);
  });
}

}  // namespace pleiad::kernels
