#include "model/cuda/weight_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "model/cuda/gpu_weights.h"

namespace pleiad::model::cuda {
namespace {

using device::cuda::DeviceBuffer;
using device::cuda::Event;
using device::cuda::PinnedBuffer;
using device::cuda::Stream;
using kernels::MatrixSource;
using kernels::PackedMatrix;
using kernels::PanelLayout;
using kernels::WeightFormat;

constexpr std::int64_t kPanel = PackedMatrix::kPanel;

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

// Stored rows of a source that is copied as it is.
std::int64_t rows_of(const MatrixSource& source) {
  return source.row_count >= 0 ? source.row_count : source.tensor.shape[0] - source.row_begin;
}

// Their bytes.
std::span<const std::byte> stored_rows(const MatrixSource& source) {
  const std::size_t line = size(source.tensor.shape[1]) * device::size_of(source.tensor.dtype);
  return source.tensor.bytes.subspan(size(source.row_begin) * line, size(rows_of(source)) * line);
}

// Each row's scales, from those of blocks of rows.
void spread_scales(const MatrixSource& source, std::byte* to) {
  const std::size_t line = size(source.scales.shape[1]) * device::size_of(source.scales.dtype);
  for (std::int64_t row = 0; row < rows_of(source); ++row) {
    const std::size_t block = size((source.row_begin + row) / source.scale_rows);
    std::memcpy(to + size(row) * line, source.scales.bytes.data() + block * line, line);
  }
}

float scale_at(const device::TensorView& scales, std::size_t index) {
  const std::byte* at = scales.bytes.data() + index * device::size_of(scales.dtype);
  if (scales.dtype == device::DType::F8E8M0) {
    return device::f8e8m0_to_float(std::to_integer<std::uint8_t>(*at));
  }
  if (scales.dtype == device::DType::F32) {
    float value = 0.0F;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return scales.dtype == device::DType::BF16 ? device::bf16_to_float(bits)
                                             : device::f16_to_float(bits);
}

bool is_nan(std::byte code) {
  return (std::to_integer<unsigned>(code) & 0x7FU) == 0x7FU;
}

// Refuses E4M3 codes that are no numbers, saying where the first stands.
Result<void> check_codes(const MatrixSource& source, std::span<const std::byte> codes) {
  // Eight at a time: but for its sign a NaN is all ones, so that adding one carries.
  constexpr std::uint64_t kOnes = 0x0101010101010101U;
  std::uint64_t found = 0;
  std::size_t at_word = 0;
  for (; at_word + sizeof(found) <= codes.size(); at_word += sizeof(found)) {
    std::uint64_t word = 0;
    std::memcpy(&word, codes.data() + at_word, sizeof(word));
    found |= ((word & ~(kOnes << 7U)) + kOnes) & (kOnes << 7U);
  }
  if (found == 0 && !std::ranges::any_of(codes.subspan(at_word), is_nan)) return {};
  const auto at = std::ranges::find_if(codes, is_nan) - codes.begin();
  const std::int64_t width = source.tensor.shape[1];
  return invalid_input(
      "the E4M3 code of row {}, column {} is NaN", source.row_begin + at / width, at % width
  );
}

}  // namespace

Result<WeightReader>
WeightReader::create(int gpu, std::size_t unpacked_bytes, const weights::Checkpoint& checkpoint) {
  PLEIAD_TRY(stream, Stream::create({.gpu = gpu}));
  std::array<Buffer, 2> buffers;
  for (Buffer& buffer : buffers) {
    PLEIAD_TRY(memory, PinnedBuffer::allocate(kBufferBytes, "buffers for loading"));
    PLEIAD_TRY(copied, Event::create());
    buffer.memory = std::move(memory);
    buffer.copied.emplace(std::move(copied));
  }
  PLEIAD_TRY(unpacked, DeviceBuffer::allocate(unpacked_bytes, "work space for loading"));
  return WeightReader(std::move(stream), std::move(buffers), std::move(unpacked), checkpoint);
}

Result<WeightReader::Buffer*> WeightReader::next_buffer() {
  Buffer& buffer = buffers_.at(turn_);
  turn_ = (turn_ + 1) % buffers_.size();
  if (!buffer.in_use) return &buffer;
  const Nanoseconds begin = clock_.now();
  PLEIAD_TRY(buffer.copied->wait());
  phases_.waited_seconds += to_seconds(clock_.now() - begin);
  buffer.in_use = false;
  return &buffer;
}

Result<void> WeightReader::sent(Buffer& buffer) {
  PLEIAD_TRY(stream_.result());
  buffer.in_use = true;
  return buffer.copied->record(stream_);
}

Result<void> WeightReader::read(std::span<const std::byte> from, std::span<std::byte> to) {
  const Nanoseconds begin = clock_.now();
  PLEIAD_TRY(checkpoint_->read(from, to.first(from.size())));
  phases_.read_seconds += to_seconds(clock_.now() - begin);
  phases_.bytes += from.size();
  return {};
}

Result<void>
WeightReader::run(const WeightUpload& upload, const MatrixOrigin* origin, std::uint64_t seed) {
  if (upload.source == nullptr) return copy_bytes(upload);
  PLEIAD_CHECK(origin != nullptr);
  const PanelLayout& layout = upload.source->layout();
  DeviceMatrix rows = upload.matrix;
  if (upload.packed != nullptr) {
    rows = kernels::cuda::plan_device_matrix(upload.outputs, layout, unpacked_.data());
  }
  PLEIAD_TRY(make_rows(upload, *origin, rows, seed));
  if (upload.packed == nullptr) return {};
  const bool coded = layout.format == WeightFormat::Fp8Block;
  kernels::cuda::pack_grouped_weights(
      stream_,
      {.stored = rows.codes,
       .packed = upload.packed,
       .experts = 1,
       .outputs = static_cast<std::int32_t>(upload.outputs),
       .inputs = static_cast<std::int32_t>(layout.inputs),
       .format =
           coded ? kernels::cuda::GroupedFormat::Fp8Blocks : kernels::cuda::GroupedFormat::BFloat16,
       .layout = upload.layout}
  );
  return coded ? copy_block_scales(upload, *origin) : stream_.result();
}

Result<void> WeightReader::copy_bytes(const WeightUpload& upload) {
  PLEIAD_TRY(buffer, next_buffer());
  PLEIAD_TRY(read(upload.bytes, {buffer->memory.data(), buffer->memory.size()}));
  stream_.copy_to_device(
      const_cast<std::byte*>(upload.matrix.codes), buffer->memory.data(), upload.bytes.size()
  );
  return sent(*buffer);
}

// In portions that fit a buffer, at whole panels.
Result<void> WeightReader::make_rows(
    const WeightUpload& upload,
    const MatrixOrigin& origin,
    const DeviceMatrix& rows,
    std::uint64_t seed
) {
  const PanelLayout& layout = upload.source->layout();
  if (checkpoint_->is_made_up() && layout.format == WeightFormat::Plain) {
    if (upload.first_output > 0) return {};  // the first part makes them all
    const float deviation = 1.0F / std::sqrt(static_cast<float>(layout.inputs));
    kernels::cuda::fill_random(stream_, rows, deviation, seed);
    phases_.bytes += size(rows.outputs) * size(rows.row_bytes);
    return stream_.result();
  }
  const bool stored = std::ranges::all_of(origin.sources, [&](const MatrixSource& source) {
    return rows_are_stored(source, layout);
  });
  const auto panels =
      static_cast<std::int64_t>(std::max<std::size_t>(1, kBufferBytes / layout.bytes()));
  const std::int64_t end = upload.first_output + upload.outputs;
  for (std::int64_t first = upload.first_output; first < end; first += panels * kPanel) {
    const std::int64_t count = std::min(panels * kPanel, end - first);
    const auto sources = cut_sources(origin.sources, first, count);
    auto sent = stored ? copy_rows(sources, rows, first, upload.packed == nullptr)
                       : copy_panels(sources, rows, first);
    if (!sent.ok()) return with_context(std::move(sent).error(), origin.names);
  }
  if (stored) return {};
  for (const MatrixSource& source : origin.sources) {
    checkpoint_->release(source.tensor);
  }
  return {};
}

Result<void> WeightReader::copy_rows(
    std::span<const MatrixSource> sources,
    const DeviceMatrix& rows,
    std::int64_t first,
    bool with_scales
) {
  PLEIAD_TRY(buffer, next_buffer());
  std::span<std::byte> left(buffer->memory.data(), buffer->memory.size());
  for (const MatrixSource& source : sources) {
    const auto stored = stored_rows(source);
    PLEIAD_TRY(read(stored, left));
    if (source.format == WeightFormat::Fp8Block) {
      PLEIAD_TRY(check_codes(source, left.first(stored.size())));
    }
    const std::int64_t count = rows_of(source);
    stream_.copy_rows_to_device(
        const_cast<std::byte*>(rows.codes) + first * rows.row_bytes,
        size(rows.row_bytes),
        left.data(),
        {.rows = size(count), .bytes = stored.size() / size(count)}
    );
    left = left.subspan(stored.size());
    if (with_scales && rows.groups > 0) {
      const std::size_t line = size(rows.groups) * device::size_of(rows.scale_type);
      spread_scales(source, left.data());
      stream_.copy_to_device(
          const_cast<std::byte*>(rows.scales) + size(first) * line, left.data(), size(count) * line
      );
      left = left.subspan(size(count) * line);
    }
    first += count;
  }
  return sent(*buffer);
}

Result<void> WeightReader::copy_panels(
    std::span<const MatrixSource> sources,
    const DeviceMatrix& rows,
    std::int64_t first
) {
  PLEIAD_TRY(buffer, next_buffer());
  const Nanoseconds begin = clock_.now();
  PLEIAD_TRY(
      packed,
      PackedMatrix::pack(
          sources, rows.compute, std::span(buffer->memory.data(), buffer->memory.size())
      )
  );
  phases_.pack_seconds += to_seconds(clock_.now() - begin);
  if (panels_.size() == 0) {
    PLEIAD_TRY(panels, DeviceBuffer::allocate(kBufferBytes, "work space for loading"));
    panels_ = std::move(panels);
  }
  const std::size_t bytes = size(packed.panels()) * packed.panel_bytes();
  phases_.bytes += bytes;
  stream_.copy_to_device(panels_.data(), buffer->memory.data(), bytes);
  kernels::cuda::place_panels(
      stream_,
      {.panels = panels_.data(),
       .layout = packed.layout(),
       .first_panel = first / kPanel,
       .panel_count = packed.panels(),
       .matrix = rows}
  );
  return sent(*buffer);
}

// One scale for each block of 128 x 128, by stored rows.
Result<void>
WeightReader::copy_block_scales(const WeightUpload& upload, const MatrixOrigin& origin) {
  PLEIAD_TRY(buffer, next_buffer());
  auto* at = reinterpret_cast<float*>(buffer->memory.data());
  std::size_t count = 0;
  for (const MatrixSource& source : origin.sources) {
    const std::size_t width = size(source.scales.shape[1]);
    const std::size_t first = size(source.row_begin / source.scale_rows) * width;
    const std::size_t scales = size(rows_of(source) / source.scale_rows) * width;
    for (std::size_t i = 0; i < scales; ++i) {
      at[count++] = scale_at(source.scales, first + i);
    }
  }
  stream_.copy_to_device(upload.block_scales, at, count * sizeof(float));
  return sent(*buffer);
}

Result<void> WeightReader::finish() {
  const Nanoseconds begin = clock_.now();
  PLEIAD_TRY(stream_.wait("copying weights to the GPU"));
  phases_.waited_seconds += to_seconds(clock_.now() - begin);
  return {};
}

}  // namespace pleiad::model::cuda
