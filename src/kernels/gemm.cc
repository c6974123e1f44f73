#include "kernels/gemm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "base/check.h"
#include "kernels/detail/isa_kernels.h"

namespace pleiad::kernels {
namespace {

using detail::IsaKernels;
using detail::kPanelGroup;
using detail::kRowBlock;
using detail::PanelProduct;

// Tasks planned at a time, on the stack.
constexpr std::size_t kTasksMax = 64;
// Fewer multiply-adds than this are not worth waking another thread.
constexpr std::int64_t kInlineWork = 32'768;
// Units per worker: enough that a worker which comes late or is slow does not hold up the others.
constexpr std::int64_t kUnitsPerWorker = 8;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t work_of(const GemmTask& task) {
  if (task.rows <= 0) return 0;
  return task.rows * task.weight->panels() * PackedMatrix::kPanel * task.weight->inputs();
}

bool partial_sums_fit(const GemmTask& task) {
  if (task.rows <= 0 || task.partial_sums == 1) return true;
  const bool known = task.partial_sums == 2 || task.partial_sums == 4;
  // Pairs of BF16 and words of codes stay whole.
  const std::int64_t whole = task.weight->format() == WeightFormat::Plain ? 2 : 8;
  return known && !task.round_output && task.weight->inputs() % (whole * task.partial_sums) == 0;
}

// How one task falls into units: row blocks x chunks of panels, row blocks innermost so that
// neighbouring units read the same weights.
struct Split {
  std::int64_t chunk_panels = 0;
  std::int64_t row_blocks = 0;
  std::int64_t units = 0;
};

// Chunks of about `unit_work` multiply-adds.
Split split_of(const GemmTask& task, std::int64_t unit_work) {
  if (task.rows <= 0) return {};
  const std::int64_t panels = task.weight->panels();
  const std::int64_t panel_work =
      std::min(task.rows, kRowBlock) * PackedMatrix::kPanel * task.weight->inputs();
  const std::int64_t wanted =
      divide_up(divide_up(unit_work, panel_work), kPanelGroup) * kPanelGroup;
  // A panel of many rows is work enough on its own; whole groups matter to few rows only.
  const std::int64_t chunk = task.rows < kPanelGroup ? wanted : divide_up(unit_work, panel_work);
  const std::int64_t chunk_panels = std::min(chunk, panels);
  const std::int64_t row_blocks = divide_up(task.rows, kRowBlock);
  return {chunk_panels, row_blocks, row_blocks * divide_up(panels, chunk_panels)};
}

void multiply(const IsaKernels& kernels, const PackedMatrix& weight, const PanelProduct& product) {
  switch (weight.format()) {
    case WeightFormat::Plain:
      break;
    case WeightFormat::Fp8Block:
      return kernels.gemm_fp8(product);
    case WeightFormat::Int8Channel:
      return kernels.gemm_int8(product);
    case WeightFormat::Int4Group32:
      return kernels.gemm_int4(product);
    case WeightFormat::MxFp4:
      return kernels.gemm_mxfp4(product);
  }
  switch (weight.compute()) {
    case Compute::Float32:
      return kernels.gemm_f32(product);
    case Compute::BFloat16:
      return kernels.gemm_bf16(product);
  }
}

// `whole` without its inputs before `begin` and from `begin + count` on.
PanelProduct part_of(
    const PanelProduct& whole,
    const PackedMatrix& weight,
    std::int64_t begin,
    std::int64_t count
) {
  PanelProduct part = whole;
  part.x += begin;
  part.inputs = count;
  if (weight.format() == WeightFormat::Plain) {
    const auto element = static_cast<std::int64_t>(
        weight.compute() == Compute::Float32 ? sizeof(float) : sizeof(device::BF16)
    );
    part.weight += begin * PackedMatrix::kPanel * element;
  } else {
    part.first_input += begin;
  }
  return part;
}

// Outputs whose partial sums wait on the stack at a time.
constexpr std::int64_t kPartialOutputs = kPanelGroup * PackedMatrix::kPanel;

// A product's inputs in parts: adds up the chains of parts [first, first + count) for at most
// kPartialOutputs outputs.
struct PartialSums {
  const IsaKernels& kernels;
  const PackedMatrix& weight;
  PanelProduct whole;
  std::int64_t part_inputs = 0;

  // Depth is two at most.
  // NOLINTNEXTLINE(misc-no-recursion)
  void sum(std::int64_t first, std::int64_t count, float* y, std::int64_t y_stride) const {
    if (count == 1) {
      PanelProduct part = part_of(whole, weight, first * part_inputs, part_inputs);
      if (first > 0) part.bias = nullptr;
      part.y = y;
      part.y_stride = y_stride;
      multiply(kernels, weight, part);
      return;
    }
    constexpr auto kUpper = static_cast<std::size_t>(kRowBlock * kPartialOutputs);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): the second sum() fills it.
    alignas(64) std::array<float, kUpper> upper;
    sum(first, count / 2, y, y_stride);
    sum(first + count / 2, count / 2, upper.data(), kPartialOutputs);
    for (std::int64_t row = 0; row < whole.rows; ++row) {
      kernels.add(upper.data() + row * kPartialOutputs, whole.outputs, y + row * y_stride);
    }
  }
};

void multiply_in_parts(
    const IsaKernels& kernels,
    const PackedMatrix& weight,
    const PanelProduct& product,
    std::int64_t parts
) {
  for (std::int64_t output = 0; output < product.outputs; output += kPartialOutputs) {
    PartialSums sums{kernels, weight, product, product.inputs / parts};
    sums.whole.weight += output / PackedMatrix::kPanel * product.panel_step;
    if (product.bias != nullptr) sums.whole.bias += output;
    sums.whole.outputs = std::min(kPartialOutputs, product.outputs - output);
    sums.sum(0, parts, product.y + output, product.y_stride);
  }
}

void run_unit(
    const IsaKernels& kernels,
    const GemmTask& task,
    const Split& split,
    std::int64_t unit
) {
  const PackedMatrix& weight = *task.weight;
  const std::int64_t panel = unit / split.row_blocks * split.chunk_panels;
  const std::int64_t row = unit % split.row_blocks * kRowBlock;
  const std::int64_t output = panel * PackedMatrix::kPanel;
  const std::int64_t outputs =
      std::min(split.chunk_panels * PackedMatrix::kPanel, weight.outputs() - output);
  const bool gathered = task.x_rows != nullptr;
  const PanelProduct product = {
      .x = gathered ? task.x : task.x + row * task.x_stride,
      .x_stride = task.x_stride,
      .x_rows = gathered ? task.x_rows + row : nullptr,
      .rows = std::min(kRowBlock, task.rows - row),
      .weight = weight.panel(panel),
      .panel_step = static_cast<std::int64_t>(weight.panel_bytes()),
      .inputs = weight.inputs(),
      .outputs = outputs,
      .y = task.y + row * task.y_stride + output,
      .y_stride = task.y_stride,
      .bias = task.bias == nullptr ? nullptr : task.bias + output,
      .accumulate = false,
      .round_output = task.round_output && weight.compute() == Compute::BFloat16,
      .first_input = 0,
      .scale_inputs = weight.layout().scale_inputs,
      .codes_begin = static_cast<std::int64_t>(weight.layout().codes_begin()),
      .bf16_scales = weight.layout().scale_type == device::DType::BF16,
  };
  if (task.partial_sums == 1) {
    multiply(kernels, weight, product);
  } else {
    multiply_in_parts(kernels, weight, product, task.partial_sums);
  }
}

// At most kTasksMax tasks.
void run_tasks(const Context& context, std::span<const GemmTask> tasks) {
  const IsaKernels& kernels = detail::kernels_of(context.isa);
  std::int64_t work = 0;
  for (const GemmTask& task : tasks) {
    PLEIAD_CHECK(partial_sums_fit(task));
    work += work_of(task);
  }
  if (work == 0) return;
  const std::int64_t shares = kUnitsPerWorker * context.pool->workers();
  const bool alone = work < kInlineWork || context.pool->workers() == 1;
  const std::int64_t unit_work = alone ? work : std::max(divide_up(work, shares), kInlineWork / 2);

  std::array<Split, kTasksMax> splits;
  std::array<std::int64_t, kTasksMax> begins{};  // first unit of each task
  std::int64_t units = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    splits[i] = split_of(tasks[i], unit_work);
    begins[i] = units;
    units += splits[i].units;
  }
  const auto run = [&](std::size_t index) {
    const auto unit = static_cast<std::int64_t>(index);
    const auto* after = std::upper_bound(begins.data(), begins.data() + tasks.size(), unit);
    const auto task = static_cast<std::size_t>(after - begins.data()) - 1;
    run_unit(kernels, tasks[task], splits[task], unit - begins[task]);
  };
  if (alone) {
    for (std::int64_t unit = 0; unit < units; ++unit) {
      run(static_cast<std::size_t>(unit));
    }
  } else {
    context.pool->parallel_for(static_cast<std::size_t>(units), run);
  }
}

}  // namespace

void grouped_gemm(const Context& context, std::span<const GemmTask> tasks) {
  while (!tasks.empty()) {
    const std::size_t count = std::min(tasks.size(), kTasksMax);
    run_tasks(context, tasks.first(count));
    tasks = tasks.subspan(count);
  }
}

void gemm(const Context& context, const GemmTask& task) {
  grouped_gemm(context, {&task, 1});
}

namespace {

// Some inputs of a row of x, and as many codes and scales of an output.
struct Terms {
  std::span<const float> x;
  std::span<const float> codes;
  std::span<const float> scales;
};

// `sum` and their products: a chain of fused multiply-adds.
float chain_sum(float sum, const Terms& terms) {
  for (std::size_t i = 0; i < terms.x.size(); ++i) {
    sum = std::fma(terms.x[i], terms.codes[i] * terms.scales[i], sum);
  }
  return sum;
}

// The same by integers.
float int8_sum(float start, const Terms& terms) {
  float largest = 0.0F;
  for (const float x : terms.x) {
    if (!std::isfinite(x)) return std::numeric_limits<float>::quiet_NaN();
    largest = std::max(largest, std::fabs(x));
  }
  const float scale = largest < 0x1p-100F ? 0.0F : largest / 127.0F;
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < terms.x.size() && scale > 0.0F; ++i) {
    const auto quantised = static_cast<std::int64_t>(std::nearbyint(terms.x[i] / scale));
    sum += quantised * static_cast<std::int64_t>(terms.codes[i]);
  }
  return static_cast<float>(sum) * (scale * terms.scales.front()) + start;
}

}  // namespace

void gemm_reference(const GemmTask& task) {
  if (task.rows <= 0) return;
  const PackedMatrix& weight = *task.weight;
  const auto inputs = static_cast<std::size_t>(weight.inputs());
  const std::size_t part = inputs / static_cast<std::size_t>(task.partial_sums);
  auto* const sum_of = weight.format() == WeightFormat::Int8Channel ? int8_sum : chain_sum;
  std::vector<float> codes(inputs);
  std::vector<float> scales(inputs);
  for (std::int64_t o = 0; o < weight.outputs(); ++o) {
    for (std::size_t i = 0; i < inputs; ++i) {
      codes[i] = weight.code(o, static_cast<std::int64_t>(i));
      scales[i] = weight.scale(o, static_cast<std::int64_t>(i));
    }
    for (std::int64_t r = 0; r < task.rows; ++r) {
      const std::int64_t line = task.x_rows == nullptr ? r : task.x_rows[r];
      const Terms all = {{task.x + line * task.x_stride, inputs}, codes, scales};
      std::array<float, 4> sums{};
      for (std::size_t p = 0; p < static_cast<std::size_t>(task.partial_sums); ++p) {
        const std::size_t first = p * part;
        sums.at(p) = sum_of(
            p == 0 && task.bias != nullptr ? task.bias[o] : 0.0F,
            {all.x.subspan(first, part),
             all.codes.subspan(first, part),
             all.scales.subspan(first, part)}
        );
      }
      float total = sums[0];
      if (task.partial_sums == 2) total = sums[0] + sums[1];
      if (task.partial_sums == 4) total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      task.y[r * task.y_stride + o] =
          task.round_output ? round_activation(total, weight.compute()) : total;
    }
  }
}

}  // namespace pleiad::kernels
