#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/detail/isa_kernels.h"

// Register tiles of PanelProduct, over the vector operations `Isa`. A tile keeps kRows x kPanels
// panels of sums in registers while it walks the inputs; for one row several panels are in flight,
// so that the latency of a fused multiply-add is hidden and memory is the only limit (one row of
// BF16 weights reads two bytes per multiply-add). Between blocks of inputs the sums wait in y,
// which changes no bit.
namespace pleiad::kernels::detail {

// Inputs walked at a time when there are more rows than one tile holds: the block of x stays in the
// second-level cache and the block of a panel in the first. Even, so that pairs stay whole.
inline constexpr std::int64_t kInputBlock = 1024;

// A tile of a PanelProduct: where it starts and which inputs it walks. No initialisers: see
// isa_kernels.h.
struct Tile {
  std::int64_t row;
  std::int64_t panel;
  std::int64_t input;
  std::int64_t inputs;
};

template <typename Isa>
const float* x_line(const PanelProduct& product, std::int64_t row) {
  const std::int64_t line = product.x_rows == nullptr ? row : product.x_rows[row];
  return product.x + line * product.x_stride;
}

template <typename Isa>
const std::byte* panel_at(const PanelProduct& product, std::int64_t panel) {
  return product.weight + panel * product.panel_step;
}

// The sums of a tile, between registers and y.
template <typename Isa, int kRows, int kPanels>
struct TileSums {
  static constexpr int kCount = kPanels * Isa::kRegs;  // registers per row
  typename Isa::Reg regs[kRows][kCount];

  [[gnu::always_inline]] void load(const PanelProduct& product, const Tile& tile) {
    const bool resume = tile.input > 0 || product.accumulate;
    const std::int64_t lanes = product.outputs - tile.panel * kLanes;
    const float* y = product.y + tile.row * product.y_stride + tile.panel * kLanes;
    if (!resume && product.bias != nullptr) {
      const float* bias = product.bias + tile.panel * kLanes;
      for (int j = 0; j < kCount; ++j) {
        const int lane = j * Isa::kWidth;
        const typename Isa::Reg start = Isa::load_first(bias + lane, lanes - lane, 0.0F);
        for (int r = 0; r < kRows; ++r) {
          regs[r][j] = start;
        }
      }
      return;
    }
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kCount; ++j) {
        const int lane = j * Isa::kWidth;
        regs[r][j] = resume ? Isa::load_first(y + r * product.y_stride + lane, lanes - lane, 0.0F)
                            : Isa::zero();
      }
    }
  }

  [[gnu::always_inline]] void store(const PanelProduct& product, const Tile& tile) {
    const bool round = product.round_output && tile.input + tile.inputs == product.inputs;
    const std::int64_t lanes = product.outputs - tile.panel * kLanes;
    float* y = product.y + tile.row * product.y_stride + tile.panel * kLanes;
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kCount; ++j) {
        const int lane = j * Isa::kWidth;
        const typename Isa::Reg sum = round ? Isa::round_bf16(regs[r][j]) : regs[r][j];
        Isa::store_first(y + r * product.y_stride + lane, sum, lanes - lane);
      }
    }
  }
};

// Float weights.
template <typename Isa>
struct FloatTiles {
  template <int kRows, int kPanels>
  static void run(const PanelProduct& product, const Tile& tile) {
    using Reg = typename Isa::Reg;
    constexpr int kCount = kPanels * Isa::kRegs;
    const float* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = x_line<Isa>(product, tile.row + r) + tile.input;
    }
    const float* w[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      w[p] = reinterpret_cast<const float*>(panel_at<Isa>(product, tile.panel + p)) +
             tile.input * kLanes;
    }
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): load() fills it.
    TileSums<Isa, kRows, kPanels> sums;
    sums.load(product, tile);
    for (std::int64_t i = 0; i < tile.inputs; ++i) {
      Reg weight[kCount];
      for (int j = 0; j < kCount; ++j) {
        weight[j] = Isa::load(w[j / Isa::kRegs] + i * kLanes + (j % Isa::kRegs) * Isa::kWidth);
      }
      for (int r = 0; r < kRows; ++r) {
        const Reg value = Isa::broadcast(x[r][i]);
        for (int j = 0; j < kCount; ++j) {
          sums.regs[r][j] = Isa::fma(value, weight[j], sums.regs[r][j]);
        }
      }
    }
    sums.store(product, tile);
  }
};

// BF16 weights, pairs of inputs: the even one's product is added first.
template <typename Isa>
struct PairTiles {
  template <int kRows, int kPanels>
  static void run(const PanelProduct& product, const Tile& tile) {
    constexpr int kCount = kPanels * Isa::kRegs;
    const float* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = x_line<Isa>(product, tile.row + r) + tile.input;
    }
    const std::byte* w[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      w[p] = panel_at<Isa>(product, tile.panel + p) + tile.input * kLanes * 2;
    }
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): load() fills it.
    TileSums<Isa, kRows, kPanels> sums;
    sums.load(product, tile);
    const std::int64_t pairs = tile.inputs / 2;
    for (std::int64_t k = 0; k < pairs; ++k) {
      typename Isa::Pairs raw[kCount];
      for (int j = 0; j < kCount; ++j) {
        raw[j] = Isa::load_pairs(w[j / Isa::kRegs] + k * 64 + (j % Isa::kRegs) * Isa::kWidth * 4);
      }
      multiply<kRows, kCount>(x, 2 * k, raw, sums.regs);
    }
    if (tile.inputs % 2 != 0) {
      for (int j = 0; j < kCount; ++j) {
        const auto raw =
            Isa::load_pairs(w[j / Isa::kRegs] + pairs * 64 + (j % Isa::kRegs) * Isa::kWidth * 4);
        for (int r = 0; r < kRows; ++r) {
          sums.regs[r][j] =
              Isa::fma(Isa::broadcast(x[r][2 * pairs]), Isa::even(raw), sums.regs[r][j]);
        }
      }
    }
    sums.store(product, tile);
  }

  template <int kRows, int kCount>
  [[gnu::always_inline]] static void multiply(
      const float* const (&x)[kRows],
      std::int64_t input,
      const typename Isa::Pairs (&raw)[kCount],
      typename Isa::Reg (&sums)[kRows][kCount]
  ) {
    using Reg = typename Isa::Reg;
    Reg weight[kCount];
    for (int j = 0; j < kCount; ++j) {
      weight[j] = Isa::even(raw[j]);
    }
    for (int r = 0; r < kRows; ++r) {
      const Reg value = Isa::broadcast(x[r][input]);
      for (int j = 0; j < kCount; ++j) {
        sums[r][j] = Isa::fma(value, weight[j], sums[r][j]);
      }
    }
    for (int j = 0; j < kCount; ++j) {
      weight[j] = Isa::odd(raw[j]);
    }
    for (int r = 0; r < kRows; ++r) {
      const Reg value = Isa::broadcast(x[r][input + 1]);
      for (int j = 0; j < kCount; ++j) {
        sums[r][j] = Isa::fma(value, weight[j], sums[r][j]);
      }
    }
  }
};

// How large tiles may be: kRowTile rows, kTileRegs accumulators, kRegs of which a panel takes for
// each row. `Limits` names them; an instruction set does for its float tiles.

// Panels to take at a time for `rows` rows: the largest power of two whose sums fit the registers.
template <typename Limits>
std::int64_t panels_for(std::int64_t rows) {
  const std::int64_t tile_rows = rows < Limits::kRowTile ? rows : Limits::kRowTile;
  std::int64_t panels = kPanelGroup;
  while (panels > 1 && tile_rows * panels * Limits::kRegs > Limits::kTileRegs) {
    panels /= 2;
  }
  return panels;
}

// Runs the tile instance for `rows` rows.
template <typename Limits, typename Tiles, int kPanels, int kRows, typename Product, typename At>
void run_rows(const Product& product, const At& tile, std::int64_t rows) {
  if constexpr (kRows * kPanels * Limits::kRegs <= Limits::kTileRegs) {
    if (rows == kRows) {
      Tiles::template run<kRows, kPanels>(product, tile);
      return;
    }
  }
  if constexpr (kRows > 1) run_rows<Limits, Tiles, kPanels, kRows - 1>(product, tile, rows);
}

template <typename Limits, typename Tiles, typename Product, typename At>
void run_tile(const Product& product, const At& tile, std::int64_t rows, std::int64_t panels) {
  if (panels == 8) {
    run_rows<Limits, Tiles, 8, Limits::kRowTile>(product, tile, rows);
  } else if (panels == 4) {
    run_rows<Limits, Tiles, 4, Limits::kRowTile>(product, tile, rows);
  } else if (panels == 2) {
    run_rows<Limits, Tiles, 2, Limits::kRowTile>(product, tile, rows);
  } else {
    run_rows<Limits, Tiles, 1, Limits::kRowTile>(product, tile, rows);
  }
}

// One block of inputs for all rows and panels.
template <typename Isa, typename Tiles>
void run_input_block(const PanelProduct& product, std::int64_t input, std::int64_t inputs) {
  const std::int64_t panels = (product.outputs + kLanes - 1) / kLanes;
  const std::int64_t group = panels_for<Isa>(product.rows);
  std::int64_t taken = group;
  for (std::int64_t panel = 0; panel < panels; panel += taken) {
    while (taken > panels - panel) {
      taken /= 2;
    }
    for (std::int64_t row = 0; row < product.rows; row += Isa::kRowTile) {
      const std::int64_t left = product.rows - row;
      const Tile tile = {row, panel, input, inputs};
      run_tile<Isa, Tiles>(product, tile, left < Isa::kRowTile ? left : Isa::kRowTile, taken);
    }
  }
}

template <typename Isa, typename Tiles>
void panel_product(const PanelProduct& product) {
  const std::int64_t block = product.rows > Isa::kRowTile ? kInputBlock : product.inputs;
  for (std::int64_t input = 0; input < product.inputs; input += block) {
    const std::int64_t left = product.inputs - input;
    run_input_block<Isa, Tiles>(product, input, left < block ? left : block);
  }
}

}  // namespace pleiad::kernels::detail
