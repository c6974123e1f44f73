#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/device_matrix.h"

namespace pleiad::kernels::cuda {
namespace {

using detail::BF16;
using detail::blocks_for;

constexpr std::int64_t kPanel = PackedMatrix::kPanel;
constexpr std::int64_t kRowAlignment = 16;
constexpr std::size_t kAlignment = 256;
constexpr unsigned kThreads = 256;

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

// Words of one output in a panel: a float, two BF16s, four bytes, eight half bytes.
std::int64_t words_of(const PanelLayout& layout) {
  const bool pairs = layout.format == WeightFormat::Plain && layout.compute == Compute::BFloat16;
  const std::int64_t per_word = pairs ? 2 : inputs_per_word(layout.format);
  return (layout.inputs + per_word - 1) / per_word;
}

// Elements of panels [panels][elements][16], panel_bytes apart, become rows [outputs][elements],
// row_bytes apart.
struct TurnArgs {
  const std::byte* panels;
  std::int64_t panel_bytes;
  std::int64_t elements;
  std::byte* rows;
  std::int64_t row_bytes;
  std::int64_t outputs;  // of these panels that are no padding
  std::uint32_t flip;    // bits that change their meaning on the way
};

// One thread an element of one output; neighbouring threads read neighbouring outputs.
template <typename T>
__global__ void turn_panels(const TurnArgs args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t lane = index % kPanel;
  const std::int64_t element = index / kPanel % args.elements;
  const std::int64_t panel = index / kPanel / args.elements;
  const std::int64_t output = panel * kPanel + lane;
  if (output >= args.outputs) return;
  const auto* from = reinterpret_cast<const T*>(args.panels + panel * args.panel_bytes);
  auto* to = reinterpret_cast<T*>(args.rows + output * args.row_bytes);
  to[element] = static_cast<T>(from[element * kPanel + lane] ^ static_cast<T>(args.flip));
}

template <typename T>
void turn(device::cuda::Stream& stream, const TurnArgs& args, std::int64_t panels) {
  const std::int64_t threads = panels * args.elements * kPanel;
  turn_panels<T><<<blocks_for(threads, kThreads), kThreads, 0, stream.handle()>>>(args);
  stream.launched("place_panels", args.outputs, args.elements);
}

struct RandomArgs {
  std::byte* codes;
  std::int64_t outputs;
  std::int64_t inputs;
  std::int64_t row_bytes;
  float deviation;
  std::uint64_t seed;
};

// A sum of four uniform numbers, whose deviation is sqrt(4 / 12).
__device__ float noise(std::uint64_t key) {
  key += 0x9E3779B97F4A7C15ULL;
  key = (key ^ (key >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  key = (key ^ (key >> 27U)) * 0x94D049BB133111EBULL;
  key ^= key >> 31U;
  int sum = 0;
  for (unsigned i = 0; i < 4; ++i) {
    sum += static_cast<int>((key >> (16U * i)) & 0xFFFFU);
  }
  return (static_cast<float>(sum) / 65536.0F - 2.0F) * 1.7320508F;
}

template <typename T>
__global__ void fill_random_rows(const RandomArgs args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= args.outputs * args.inputs) return;
  auto* row = reinterpret_cast<T*>(args.codes + index / args.inputs * args.row_bytes);
  const auto key = args.seed * 0xD1342543DE82EF95ULL + static_cast<std::uint64_t>(index);
  row[index % args.inputs] = detail::from_float<T>(args.deviation * noise(key));
}

}  // namespace

std::size_t device_matrix_bytes(const DeviceMatrix& matrix) {
  const auto outputs = static_cast<std::size_t>(matrix.outputs);
  const std::size_t codes = outputs * static_cast<std::size_t>(matrix.row_bytes);
  const std::size_t scales =
      outputs * static_cast<std::size_t>(matrix.groups) * device::size_of(matrix.scale_type);
  return (codes + scales + kAlignment - 1) / kAlignment * kAlignment;
}

DeviceMatrix
plan_device_matrix(std::int64_t outputs, const PanelLayout& layout, std::byte* memory) {
  DeviceMatrix matrix{
      .codes = memory,
      .outputs = outputs,
      .inputs = layout.inputs,
      .row_bytes = round_up(words_of(layout) * 4, kRowAlignment),
      .groups = layout.groups(),
      .scale_inputs = layout.scale_inputs,
      .format = layout.format,
      .compute = layout.compute,
      .scale_type = layout.scale_type,
  };
  if (memory != nullptr && matrix.groups > 0) {
    matrix.scales = memory + outputs * matrix.row_bytes;
  }
  return matrix;
}

void place_panels(device::cuda::Stream& stream, const PlacePanelsTask& task) {
  const DeviceMatrix& matrix = task.matrix;
  const std::int64_t first = task.first_panel * kPanel;
  PLEIAD_CHECK(first < matrix.outputs);
  auto* rows = const_cast<std::byte*>(matrix.codes) + first * matrix.row_bytes;
  TurnArgs args{
      .panels = task.panels + task.layout.codes_begin(),
      .panel_bytes = static_cast<std::int64_t>(task.layout.bytes()),
      .elements = words_of(task.layout),
      .rows = rows,
      .row_bytes = matrix.row_bytes,
      .outputs = matrix.outputs - first,
      // Panels keep 8-bit integers plus 128.
      .flip = task.layout.format == WeightFormat::Int8Channel ? 0x80808080U : 0U,
  };
  turn<std::uint32_t>(stream, args, task.panel_count);
  if (matrix.groups == 0) return;
  const auto scale_bytes = static_cast<std::int64_t>(device::size_of(matrix.scale_type));
  args.panels = task.panels;
  args.elements = matrix.groups;
  args.row_bytes = matrix.groups * scale_bytes;
  args.rows = const_cast<std::byte*>(matrix.scales) + first * args.row_bytes;
  args.flip = 0;
  if (scale_bytes == 4) {
    turn<std::uint32_t>(stream, args, task.panel_count);
  } else if (scale_bytes == 2) {
    turn<std::uint16_t>(stream, args, task.panel_count);
  } else {
    turn<std::uint8_t>(stream, args, task.panel_count);
  }
}

void fill_random(
    device::cuda::Stream& stream,
    const DeviceMatrix& matrix,
    float deviation,
    std::uint64_t seed
) {
  PLEIAD_CHECK(matrix.format == WeightFormat::Plain);
  const RandomArgs args{
      .codes = const_cast<std::byte*>(matrix.codes),
      .outputs = matrix.outputs,
      .inputs = matrix.inputs,
      .row_bytes = matrix.row_bytes,
      .deviation = deviation,
      .seed = seed,
  };
  const unsigned blocks = blocks_for(matrix.outputs * matrix.inputs, kThreads);
  if (matrix.compute == Compute::Float32) {
    fill_random_rows<float><<<blocks, kThreads, 0, stream.handle()>>>(args);
  } else {
    fill_random_rows<BF16><<<blocks, kThreads, 0, stream.handle()>>>(args);
  }
  stream.launched("fill_random", matrix.outputs, matrix.inputs);
}

}  // namespace pleiad::kernels::cuda
