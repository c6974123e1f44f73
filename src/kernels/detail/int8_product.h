#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/detail/panel_product.h"

// PanelProduct of integers: y = (sum over i of q[r, i] * code[o, i]) * (s[r] * scale[o]) + bias[o],
// where q = x / s rounded to even and s = amax of the row's inputs / 127. Sums are exact, so their
// order is free. Codes lie as code + 128, whose surplus 128 * sum of q is taken off each row.
// Quantised rows stand on the stack, a block of inputs at a time; between blocks the sums wait in y
// as bits.
namespace pleiad::kernels::detail {

// Bytes of quantised rows on the stack. A row takes an odd number of cache lines, so that the rows
// of a tile do not fall on one set; at most kQuadsPad bytes of it are no quads.
inline constexpr std::int64_t kQuadsBytes = std::int64_t{48} * 1024;
inline constexpr std::int64_t kQuadsPad = 128;

// Rows whose largest magnitude is below this count as zeros: dividing by their scale would not be
// exact enough, or overflow.
inline constexpr std::uint32_t kTinyBits = 0x0D800000U;  // 2^-100
inline constexpr std::uint32_t kInfinityBits = 0x7F800000U;

// What the tiles of one block of inputs share. No initialisers: see isa_kernels.h.
struct Int8Block {
  const std::byte* quads;     // the rows' quantised inputs
  std::int64_t quads_step;    // bytes from row to row
  const std::int32_t* start;  // [rows], what the sums begin with
  const float* scales;        // [rows]
  std::int64_t word;          // first word of each panel
  std::int64_t words;
  bool first;
  bool last;
};

struct Int8Tile {
  std::int64_t row;
  std::int64_t panel;
  const Int8Block* block;
};

template <typename Isa>
struct Int8Tiles {
  static constexpr int kRowTile = Isa::kIntRowTile;
  static constexpr int kTileRegs = Isa::kIntTileRegs;
  static constexpr int kRegs = Isa::kRegs;

  template <int kRows, int kPanels>
  static void run(const PanelProduct& product, const Int8Tile& tile) {
    constexpr int kCount = kPanels * Isa::kRegs;
    const Int8Block& block = *tile.block;
    const std::byte* panels[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      panels[p] = panel_at<Isa>(product, tile.panel + p);
    }
    const std::byte* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = block.quads + (tile.row + r) * block.quads_step;
    }
    const std::int64_t lanes = product.outputs - tile.panel * kLanes;
    float* y = product.y + tile.row * product.y_stride + tile.panel * kLanes;
    typename Isa::Ints sums[kRows][kCount];
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kCount; ++j) {
        const int lane = j * Isa::kWidth;
        const typename Isa::Reg waiting =
            block.first ? Isa::zero()
                        : Isa::load_first(y + r * product.y_stride + lane, lanes - lane, 0.0F);
        sums[r][j] = Isa::add_ints(Isa::bits_of(waiting), block.start[tile.row + r]);
      }
    }
    const std::int64_t codes = product.codes_begin + block.word * kLanes * 4;
    for (std::int64_t word = 0; word < block.words; ++word) {
      for (int j = 0; j < kCount; ++j) {
        const std::int64_t lane = (j % Isa::kRegs) * Isa::kWidth;
        const auto bytes = Isa::split_bytes(
            Isa::load_pairs(panels[j / Isa::kRegs] + codes + (word * kLanes + lane) * 4)
        );
        for (int r = 0; r < kRows; ++r) {
          sums[r][j] = Isa::dot(sums[r][j], bytes, x[r] + word * Isa::kQuadBytes);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kCount; ++j) {
        const int lane = j * Isa::kWidth;
        typename Isa::Reg out = Isa::from_bits(sums[r][j]);
        if (block.last) {
          const auto* scales = reinterpret_cast<const float*>(panels[j / Isa::kRegs]);
          const typename Isa::Reg scale = Isa::mul(
              Isa::broadcast(block.scales[tile.row + r]),
              Isa::load(scales + (j % Isa::kRegs) * Isa::kWidth)
          );
          out = Isa::mul(Isa::to_floats(sums[r][j]), scale);
          if (product.bias != nullptr) {
            const std::int64_t first = tile.panel * kLanes + lane;
            out = Isa::add(out, Isa::load_first(product.bias + first, lanes - lane, 0.0F));
          }
          if (product.round_output) out = Isa::round_bf16(out);
        }
        Isa::store_first(y + r * product.y_stride + lane, out, lanes - lane);
      }
    }
  }
};

// The bits of the largest magnitude; those of infinity or NaN are above all others.
template <typename Isa>
std::uint32_t largest_bits(const float* x, std::int64_t count) {
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t bits = 0;
    __builtin_memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7FFFFFFFU;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// The scale of a row: NaN when it holds anything not finite, zero when it counts as zeros.
template <typename Isa>
float row_scale(const float* x, std::int64_t count) {
  const std::uint32_t bits = largest_bits<Isa>(x, count);
  if (bits >= kInfinityBits) return __builtin_nanf("");
  if (bits < kTinyBits) return 0.0F;
  float largest = 0.0F;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  return largest / 127.0F;
}

// Quantises `count` inputs; returns their sum. A word's missing inputs become zeros.
template <typename Isa>
std::int32_t quantize_row(const float* x, std::int64_t count, float scale, std::byte* out) {
  constexpr std::int64_t kBlock = 64;
  constexpr float kRound = 0x1.8p23F;  // adding it leaves the nearest integer in the lowest bits
  const bool zeros = !(scale > 0.0F);
  std::int32_t sum = 0;
  std::int32_t q[kBlock];
  for (std::int64_t first = 0; first < count; first += kBlock) {
    const std::int64_t left = count - first < kBlock ? count - first : kBlock;
    if (zeros || left < kBlock) {
      for (std::int32_t& value : q) {
        value = 0;
      }
    }
    for (std::int64_t i = 0; i < (zeros ? 0 : left); ++i) {
      const float rounded = x[first + i] / scale + kRound;
      std::int32_t bits = 0;
      __builtin_memcpy(&bits, &rounded, sizeof(bits));
      q[i] = bits - 0x4B400000;
      sum += q[i];
    }
    for (std::int64_t i = 0; i < left; i += 4) {
      Isa::store_quad(q + i, out);
      out += Isa::kQuadBytes;
    }
  }
  return sum;
}

template <typename Isa>
void run_int8_block(const PanelProduct& product, const Int8Block& block) {
  using Tiles = Int8Tiles<Isa>;
  const std::int64_t panels = (product.outputs + kLanes - 1) / kLanes;
  std::int64_t taken = panels_for<Tiles>(product.rows);
  for (std::int64_t panel = 0; panel < panels; panel += taken) {
    while (taken > panels - panel) {
      taken /= 2;
    }
    for (std::int64_t row = 0; row < product.rows; row += Tiles::kRowTile) {
      const std::int64_t left = product.rows - row;
      const std::int64_t rows = left < Tiles::kRowTile ? left : Tiles::kRowTile;
      run_tile<Tiles, Tiles>(product, Int8Tile{row, panel, &block}, rows, taken);
    }
  }
}

template <typename Isa>
void int8_product(const PanelProduct& product) {
  alignas(64) std::byte quads[kQuadsBytes];
  float scales[kRowBlock];
  std::int32_t start[kRowBlock];
  for (std::int64_t row = 0; row < product.rows; ++row) {
    scales[row] = row_scale<Isa>(x_line<Isa>(product, row), product.inputs);
  }
  const std::int64_t all = (product.inputs + 3) / 4;
  const std::int64_t room = (kQuadsBytes / product.rows - kQuadsPad) / Isa::kQuadBytes / 16 * 16;
  const std::int64_t step = all < room ? all : room;
  for (std::int64_t word = 0; word < all; word += step) {
    const std::int64_t words = all - word < step ? all - word : step;
    const std::int64_t left = product.inputs - word * 4;
    const Int8Block block = {
        quads,
        (((words * Isa::kQuadBytes + 63) / 64) | 1) * 64,
        start,
        scales,
        product.first_input / 4 + word,
        words,
        word == 0,
        word + words == all,
    };
    for (std::int64_t row = 0; row < product.rows; ++row) {
      const std::int32_t sum = quantize_row<Isa>(
          x_line<Isa>(product, row) + word * 4,
          left < words * 4 ? left : words * 4,
          scales[row],
          quads + row * block.quads_step
      );
      start[row] = -128 * sum;
    }
    run_int8_block<Isa>(product, block);
  }
}

}  // namespace pleiad::kernels::detail
