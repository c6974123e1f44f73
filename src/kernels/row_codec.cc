#include "kernels/row_codec.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "kernels/detail/row_blocks.h"

namespace pleiad::kernels {
namespace {

// Values converted at a time: a count the compiler knows, so that it uses vectors.
constexpr std::int64_t kBlock = 32;

std::uint16_t upper_half(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U);
}

float from_upper_half(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

void narrow(const float* x, std::int64_t count, std::byte* out) {
  std::array<std::uint16_t, kBlock> block;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (std::size_t j = 0; j < kBlock; ++j) {
      block[j] = upper_half(x[i + static_cast<std::int64_t>(j)]);
    }
    std::memcpy(out + i * 2, block.data(), sizeof(block));
  }
  for (; i < count; ++i) {
    const std::uint16_t bits = upper_half(x[i]);
    std::memcpy(out + i * 2, &bits, sizeof(bits));
  }
}

void widen(const std::byte* bytes, std::int64_t count, float* y) {
  std::array<std::uint16_t, kBlock> block;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    std::memcpy(block.data(), bytes + i * 2, sizeof(block));
    for (std::size_t j = 0; j < kBlock; ++j) {
      y[i + static_cast<std::int64_t>(j)] = from_upper_half(block[j]);
    }
  }
  for (; i < count; ++i) {
    std::uint16_t value = 0;
    std::memcpy(&value, bytes + i * 2, sizeof(value));
    y[i] = from_upper_half(value);
  }
}

}  // namespace

void pack_rows(const Context& context, const PackRowsTask& task) {
  PLEIAD_CHECK(task.dtype == device::DType::F32 || task.dtype == device::DType::BF16);
  const auto row_bytes = task.width * static_cast<std::int64_t>(device::size_of(task.dtype));
  detail::for_rows(context, task.rows, task.width, [&](std::int64_t row) {
    const float* x = task.x + (task.x_rows == nullptr ? row : task.x_rows[row]) * task.width;
    std::byte* out = task.out + row * row_bytes;
    if (task.dtype == device::DType::F32) {
      std::memcpy(out, x, static_cast<std::size_t>(row_bytes));
    } else {
      narrow(x, task.width, out);
    }
  });
}

void unpack_rows(const Context& context, const UnpackRowsTask& task) {
  PLEIAD_CHECK(task.dtype == device::DType::F32 || task.dtype == device::DType::BF16);
  const auto row_bytes = task.width * static_cast<std::int64_t>(device::size_of(task.dtype));
  const std::int64_t y_stride = task.y_stride == 0 ? task.width : task.y_stride;
  detail::for_rows(context, task.rows, task.width, [&](std::int64_t row) {
    const std::int64_t from = task.from_rows == nullptr ? row : task.from_rows[row];
    const std::byte* bytes = task.bytes + from * row_bytes;
    float* y = task.y + row * y_stride;
    if (task.dtype == device::DType::F32) {
      std::memcpy(y, bytes, static_cast<std::size_t>(row_bytes));
    } else {
      widen(bytes, task.width, y);
    }
  });
}

}  // namespace pleiad::kernels
