#include "kernels/detail/coded_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "base/check.h"

namespace pleiad::kernels::detail {
namespace {

using device::DType;

constexpr auto kLanes = static_cast<std::size_t>(PackedMatrix::kPanel);
constexpr std::int64_t kGroup = 32;  // inputs of a scale of the 4-bit formats
constexpr std::int64_t kStart = 8;   // what a block's first input and a group are multiples of
constexpr std::size_t kWordBytes = 4;
constexpr std::int64_t kIntInputsMax = 65'536;  // sums of products of bytes fit 32 bits

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16;
}

// What a format's tensors look like.
struct Rule {
  DType codes;
  std::size_t rank;       // of one matrix of codes
  std::int64_t per_code;  // weights of an element of codes
  bool float_scales;      // floats are scales
  bool power_scales;      // F8_E8M0 are
  float largest;          // the largest code, in magnitude
  float scale_limit;      // scales must be below, in magnitude
};

Rule rule_of(WeightFormat format) {
  constexpr float kAny = std::numeric_limits<float>::infinity();
  switch (format) {
    case WeightFormat::Plain:
      break;
    case WeightFormat::Fp8Block:
      return {DType::F8E4M3, 2, 1, true, true, 448.0F, 256.0F};
    case WeightFormat::Int8Channel:
      return {DType::I8, 2, 1, true, false, 128.0F, kAny};
    case WeightFormat::Int4Group32:
      return {DType::I32, 2, 8, true, false, 8.0F, kAny};
    case WeightFormat::MxFp4:
      return {DType::U8, 3, 2, false, true, 6.0F, kAny};
  }
  PLEIAD_CHECK(false, "a quantised format");
}

// Whether the scales of `source` have the format's shape for a matrix of rows x columns.
bool scales_fit(const CodedSource& source, std::int64_t rows, std::int64_t columns) {
  const device::Shape& shape = source.scales.shape;
  const std::int64_t height = divide_up(rows, source.scale_rows);
  const std::int64_t width = divide_up(columns, source.scale_columns);
  const bool channels = source.format == WeightFormat::Int8Channel;
  if (channels && shape.rank == 1) return shape[0] == height;
  return shape.rank == 2 && shape[0] == height && shape[1] == width;
}

Result<device::TensorView> scales_of(const MatrixSource& source, std::size_t index) {
  const std::string what = fmt::format("scales of matrix source {}", index);
  const Rule rule = rule_of(source.format);
  device::TensorView scales = source.scales;
  const bool bytes_are_powers = source.format == WeightFormat::MxFp4 && scales.dtype == DType::U8;
  if (bytes_are_powers) scales.dtype = DType::F8E8M0;
  const bool known = (rule.float_scales && is_float(scales.dtype)) ||
                     (rule.power_scales && scales.dtype == DType::F8E8M0);
  if (!known) {
    return invalid_input(
        "{}: dtype {} is none that {} have",
        what,
        device::to_string(scales.dtype),
        to_string(source.format)
    );
  }
  const std::size_t leading = source.index < 0 ? 0 : 1;
  const bool line = source.format == WeightFormat::Int8Channel && scales.shape.rank == 1 + leading;
  return tensor_of(scales, source.index, line ? 1 : 2, what);
}

Result<void> check_scales(const CodedSource& source) {
  const Rule rule = rule_of(source.format);
  const auto count = static_cast<std::size_t>(source.scales.shape.elements());
  for (std::size_t i = 0; i < count; ++i) {
    const float scale = scale_value(source.scales, i);
    const bool fine = std::isfinite(scale * rule.largest) && std::fabs(scale) < rule.scale_limit;
    if (fine) continue;
    return invalid_input(
        "scales of matrix source {}: [{}, {}] is {}, which makes its largest weight {}",
        source.index,
        i / source.scale_line,
        i % source.scale_line,
        scale,
        std::isfinite(scale * rule.largest) ? "too large" : "not finite"
    );
  }
  return {};
}

Result<void> check_block(const CodedSource& source) {
  const Places& inputs = source.block.inputs();
  const std::string_view format = to_string(source.format);
  if (source.block.transposed && source.format != WeightFormat::Fp8Block) {
    return invalid_input(
        "matrix source {}: {} cannot be transposed, their scales belong to stored rows",
        source.index,
        format
    );
  }
  if (inputs.step != 1) {
    return invalid_input(
        "matrix source {}: inputs of {} in steps of {}, they must be consecutive",
        source.index,
        format,
        inputs.step
    );
  }
  if (source.format == WeightFormat::Int8Channel && inputs.count > kIntInputsMax) {
    return invalid_input(
        "matrix source {}: {} inputs of {}, at most {} are summed exactly",
        source.index,
        inputs.count,
        format,
        kIntInputsMax
    );
  }
  if (inputs.begin % kStart != 0) {
    return invalid_input(
        "matrix source {}: inputs of {} from {} on, a block must start at a multiple of {}",
        source.index,
        format,
        inputs.begin,
        kStart
    );
  }
  return {};
}

// Fills in the extents that share a scale. Fails when the sizes cannot be those of the format.
Result<void>
set_scale_extents(const MatrixSource& from, std::int64_t columns, CodedSource& source) {
  if (source.format == WeightFormat::Fp8Block) {
    const bool fine = from.scale_rows > 0 && from.scale_columns > 0 &&
                      from.scale_rows % kStart == 0 && from.scale_columns % kStart == 0;
    if (!fine) {
      return invalid_input(
          "matrix source {}: scales of {} x {} weights, both must be multiples of {}",
          source.index,
          from.scale_rows,
          from.scale_columns,
          kStart
      );
    }
    source.scale_rows = from.scale_rows;
    source.scale_columns = from.scale_columns;
    return {};
  }
  if (source.format == WeightFormat::Int8Channel) {
    source.scale_columns = std::max<std::int64_t>(columns, 1);
    return {};
  }
  if (columns % kGroup != 0) {
    return invalid_input(
        "matrix source {}: {} columns of {}, which share scales by {}",
        source.index,
        columns,
        to_string(source.format),
        kGroup
    );
  }
  source.scale_columns = kGroup;
  return {};
}

// The lanes of one panel: which output of which source each holds; the others stay empty.
struct Lane {
  const CodedSource* source = nullptr;
  std::int64_t output = 0;
};
using Lanes = std::array<Lane, kLanes>;

// Takes a panel's outputs from the stack: `output` of the first source is the next one. Sources
// that are used up leave the span.
Lanes next_lanes(std::span<const CodedSource>& sources, std::int64_t& output) {
  Lanes lanes{};
  for (std::size_t lane = 0; lane < kLanes && !sources.empty();) {
    const CodedSource& source = sources.front();
    if (output < source.block.outputs().count) {
      lanes[lane++] = {&source, output++};
      continue;
    }
    sources = sources.subspan(1);
    output = 0;
  }
  // What is left may be empty: then there is no further panel.
  while (!sources.empty() && output == sources.front().block.outputs().count) {
    sources = sources.subspan(1);
    output = 0;
  }
  return lanes;
}

void pack_scales(const Lanes& lanes, const PanelLayout& layout, std::byte* panel) {
  const std::size_t bytes = device::size_of(layout.scale_type);
  for (std::int64_t group = 0; group < layout.groups(); ++group) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const CodedSource* source = lanes[lane].source;
      if (source == nullptr) continue;
      const SourceBlock& block = source->block;
      const std::int64_t output = block.outputs().at(lanes[lane].output);
      const std::int64_t input = block.inputs().at(group * layout.scale_inputs);
      const std::int64_t row = block.transposed ? input : output;
      const std::int64_t column = block.transposed ? output : input;
      const float scale = scale_value(
          source->scales,
          static_cast<std::size_t>(row / source->scale_rows) * source->scale_line +
              static_cast<std::size_t>(column / source->scale_columns)
      );
      std::byte* out = panel + (static_cast<std::size_t>(group) * kLanes + lane) * bytes;
      if (layout.scale_type == DType::F32) {
        std::memcpy(out, &scale, bytes);
      } else if (layout.scale_type == DType::BF16) {
        const device::BF16 bits = device::float_to_bf16(scale);
        std::memcpy(out, &bits, bytes);
      } else {
        *out = static_cast<std::byte>(std::ilogb(scale) + 127);
      }
    }
  }
}

// Words of a lane that are read at a time, along the source's lines: the outputs of a panel often
// lie a multiple of 4096 bytes apart and would evict each other from the cache.
constexpr std::size_t kStagedWords = 32;
constexpr std::size_t kStagedBytes = kStagedWords * kWordBytes;
using Staged = std::array<std::array<std::byte, kStagedBytes>, kLanes>;

// Reads the codes of `count` inputs of a lane from `first` on; what they do not fill becomes zero.
void stage(
    const Lane& lane,
    std::int64_t first,
    std::int64_t count,
    std::array<std::byte, kStagedBytes>& out
) {
  const CodedSource& source = *lane.source;
  const SourceBlock& block = source.block;
  const auto per_byte = static_cast<std::size_t>(inputs_per_word(source.format)) / kWordBytes;
  const std::int64_t output = block.outputs().at(lane.output);
  const std::int64_t input = block.inputs().at(first);
  out.fill(std::byte{0});
  if (block.transposed) {
    const std::byte* in = source.codes + static_cast<std::size_t>(input) * source.line +
                          static_cast<std::size_t>(output);
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      out[i] = in[i * source.line];
    }
    return;
  }
  const std::byte* in = source.codes + static_cast<std::size_t>(output) * source.line +
                        static_cast<std::size_t>(input) / per_byte;
  const auto inputs = static_cast<std::size_t>(count);
  std::memcpy(out.data(), in, (inputs + per_byte - 1) / per_byte);
}

// Turns codes as they are stored into codes as they lie in memory, and those beyond `count` into
// zero.
void convert(WeightFormat format, std::size_t count, std::array<std::byte, kStagedBytes>& codes) {
  const bool nibbles = inputs_per_word(format) == 8;
  if (nibbles && count % 2 != 0) {
    codes[count / 2] &= std::byte{0x0F};
    if (format == WeightFormat::Int4Group32) codes[count / 2] |= std::byte{0x80};
  }
  if (format == WeightFormat::Int8Channel) {
    for (std::byte& code : codes) {
      code ^= std::byte{0x80};
    }
  } else if (format == WeightFormat::Int4Group32) {
    const std::size_t used = (count + 1) / 2;
    for (std::size_t i = 0; i < used; ++i) {
      codes[i] ^= std::byte{0x88};
    }
  }
}

// The first NaN of E4M3 codes.
std::optional<std::size_t> first_nan(const std::array<std::byte, kStagedBytes>& codes) {
  const auto is_nan = [](std::byte code) { return (code & std::byte{0x7F}) == std::byte{0x7F}; };
  // Without a way out of the loop it takes whole vectors.
  bool any = false;
  for (const std::byte code : codes) {
    any |= is_nan(code);
  }
  if (!any) return std::nullopt;
  const auto* at = std::find_if(codes.begin(), codes.end(), is_nan);
  return static_cast<std::size_t>(at - codes.begin());
}

Error nan_code(const Lane& lane, std::int64_t input) {
  const SourceBlock& block = lane.source->block;
  const std::int64_t output = block.outputs().at(lane.output);
  const std::int64_t from = block.inputs().at(input);
  return invalid_input(
      "matrix source {}: the E4M3 code at [{}, {}] is no number",
      lane.source->index,
      block.transposed ? from : output,
      block.transposed ? output : from
  );
}

Result<void> pack_panel(const Lanes& lanes, const PanelLayout& layout, std::byte* panel) {
  std::memset(panel, 0, layout.codes_begin());
  pack_scales(lanes, layout, panel);
  const std::int64_t per_word = inputs_per_word(layout.format);
  const std::int64_t step = static_cast<std::int64_t>(kStagedWords) * per_word;
  std::byte* out = panel + layout.codes_begin();
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): filled lane by lane.
  Staged staged;
  for (std::int64_t first = 0; first < layout.inputs; first += step) {
    const std::int64_t count = std::min(step, layout.inputs - first);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      if (lanes[lane].source == nullptr) {
        staged[lane].fill(std::byte{0});
        continue;
      }
      stage(lanes[lane], first, count, staged[lane]);
      if (layout.format == WeightFormat::Fp8Block) {
        const auto nan = first_nan(staged[lane]);
        if (nan) return nan_code(lanes[lane], first + static_cast<std::int64_t>(*nan));
      }
      convert(layout.format, static_cast<std::size_t>(count), staged[lane]);
    }
    const auto words = static_cast<std::size_t>(divide_up(count, per_word));
    for (std::size_t word = 0; word < words; ++word) {
      for (const auto& codes : staged) {
        std::memcpy(out, codes.data() + word * kWordBytes, kWordBytes);
        out += kWordBytes;
      }
    }
  }
  return {};
}

}  // namespace

float scale_value(const device::TensorView& view, std::size_t at) {
  const std::byte* bytes = view.bytes.data() + at * device::size_of(view.dtype);
  if (view.dtype == DType::F32) {
    float value = 0.0F;
    std::memcpy(&value, bytes, sizeof(value));
    return value;
  }
  if (view.dtype == DType::F8E8M0) {
    return device::f8e8m0_to_float(std::to_integer<std::uint8_t>(*bytes));
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof(bits));
  return view.dtype == DType::BF16 ? device::bf16_to_float(bits) : device::f16_to_float(bits);
}

Result<CodedSource> coded_source(const MatrixSource& source, std::size_t index) {
  const Rule rule = rule_of(source.format);
  const std::string what = fmt::format("matrix source {}", index);
  if (source.tensor.dtype != rule.codes) {
    return invalid_input(
        "{}: dtype {}, {} are {}",
        what,
        device::to_string(source.tensor.dtype),
        to_string(source.format),
        device::to_string(rule.codes)
    );
  }
  PLEIAD_TRY(codes, tensor_of(source.tensor, source.index, rule.rank, what));
  const std::int64_t rows = codes.shape[0];
  std::int64_t columns = codes.shape[1] * rule.per_code;
  if (rule.rank == 3) columns *= codes.shape[2];
  CodedSource coded{.index = index, .format = source.format, .codes = codes.bytes.data()};
  if (rows > 0) coded.line = codes.bytes.size() / static_cast<std::size_t>(rows);
  PLEIAD_TRY(set_scale_extents(source, columns, coded));
  PLEIAD_TRY(scales, scales_of(source, index));
  coded.scales = scales;
  coded.scale_line = static_cast<std::size_t>(divide_up(columns, coded.scale_columns));
  if (!scales_fit(coded, rows, columns)) {
    return invalid_input(
        "scales of {}: shape [{}, {}], a matrix of {} x {} in {} has [{}, {}]",
        what,
        scales.shape[0],
        scales.shape.rank == 2 ? scales.shape[1] : 1,
        rows,
        columns,
        to_string(source.format),
        divide_up(rows, coded.scale_rows),
        coded.scale_line
    );
  }
  PLEIAD_TRY(block, source_block(source, index, rows, columns));
  coded.block = block;
  PLEIAD_TRY(check_block(coded));
  PLEIAD_TRY(check_scales(coded));
  return coded;
}

PanelLayout layout_of(std::span<const CodedSource> sources, Compute compute) {
  const CodedSource& first = sources.front();
  PanelLayout layout = {
      .format = first.format, .compute = compute, .inputs = first.block.inputs().count};
  const bool bf16 = std::all_of(sources.begin(), sources.end(), [](const CodedSource& source) {
    return source.scales.dtype == DType::BF16;
  });
  if (first.format == WeightFormat::MxFp4) layout.scale_type = DType::F8E8M0;
  if (first.format == WeightFormat::Int4Group32 && bf16) layout.scale_type = DType::BF16;
  if (first.format == WeightFormat::Int8Channel) {
    layout.scale_inputs = divide_up(layout.inputs, kStart) * kStart;
    return layout;
  }
  for (const CodedSource& source : sources) {
    const bool transposed = source.block.transposed;
    const std::int64_t shared = transposed ? source.scale_rows : source.scale_columns;
    layout.scale_inputs =
        std::gcd(layout.scale_inputs, std::gcd(shared, source.block.inputs().begin));
  }
  return layout;
}

Result<void>
pack_codes(std::span<const CodedSource> sources, const PanelLayout& layout, std::byte* memory) {
  std::int64_t output = 0;  // of the first source that is left
  while (!sources.empty()) {
    PLEIAD_TRY(pack_panel(next_lanes(sources, output), layout, memory));
    memory += layout.bytes();
  }
  return {};
}

}  // namespace pleiad::kernels::detail
