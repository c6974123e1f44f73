#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/detail/panel_product.h"

// PanelProduct with weights that are codes and scales (PanelLayout). A weight is decoded to
// code * scale, rounded to float once, and then goes into the same chains as float weights do: bits
// do not depend on the instruction set. Few rows decode in the registers of their tile; for many
// rows a stretch of a panel is decoded once to the stack, where it stays in the first-level cache
// for FloatTiles.
namespace pleiad::kernels::detail {

// How words of codes become floats. `factor * decode` is the code; the factor is a power of two
// that goes into the scale.
template <typename Isa>
struct E4m3Codes {
  static constexpr int kWordInputs = 4;

  template <int kPlace>
  static typename Isa::Reg decode(typename Isa::Pairs words) {
    return Isa::template e4m3<kPlace>(words);
  }
  // `lane`: of the group's 16.
  static typename Isa::Reg
  scales(const PanelProduct&, const std::byte* panel, std::int64_t group, int lane) {
    const auto* at = reinterpret_cast<const float*>(panel) + group * kLanes + lane;
    return Isa::mul(Isa::load(at), Isa::broadcast(0x1p120F));
  }
};

template <typename Isa>
struct Int4Codes {
  static constexpr int kWordInputs = 8;

  template <int kPlace>
  static typename Isa::Reg decode(typename Isa::Pairs words) {
    return Isa::template int4<kPlace>(words);
  }
  static typename Isa::Reg
  scales(const PanelProduct& product, const std::byte* panel, std::int64_t group, int lane) {
    const std::int64_t at = group * kLanes + lane;
    if (product.bf16_scales) return Isa::load_bf16(panel + at * 2);
    return Isa::load(reinterpret_cast<const float*>(panel) + at);
  }
};

template <typename Isa>
struct E2m1Codes {
  static constexpr int kWordInputs = 8;

  template <int kPlace>
  static typename Isa::Reg decode(typename Isa::Pairs words) {
    return Isa::template e2m1<kPlace>(words);
  }
  static typename Isa::Reg
  scales(const PanelProduct&, const std::byte* panel, std::int64_t group, int lane) {
    return Isa::mul(Isa::load_e8m0(panel + group * kLanes + lane), Isa::broadcast(0.5F));
  }
};

// body(place, weights) for the first `count` places of a word of each register.
template <typename Isa, typename Codes, int kCount, int kPlace, typename Body>
[[gnu::always_inline]] inline void decode_word(
    const typename Isa::Pairs (&words)[kCount],
    const typename Isa::Reg (&scales)[kCount],
    std::int64_t count,
    const Body& body
) {
  if constexpr (kPlace < Codes::kWordInputs) {
    if (kPlace >= count) return;
    typename Isa::Reg weights[kCount];
    for (int j = 0; j < kCount; ++j) {
      weights[j] = Isa::mul(Codes::template decode<kPlace>(words[j]), scales[j]);
    }
    body(kPlace, weights);
    decode_word<Isa, Codes, kCount, kPlace + 1>(words, scales, count, body);
  }
}

// body(input, weights) for the tile's inputs in ascending order, counted from the tile's first;
// `weights` are those of kPanels panels from the tile's on.
template <typename Isa, typename Codes, int kPanels, typename Body>
[[gnu::always_inline]] inline void
for_weights(const PanelProduct& product, const Tile& tile, const Body& body) {
  constexpr int kCount = kPanels * Isa::kRegs;
  constexpr std::int64_t kWord = Codes::kWordInputs;
  const std::byte* panels[kPanels];
  for (int p = 0; p < kPanels; ++p) {
    panels[p] = panel_at<Isa>(product, tile.panel + p);
  }
  const std::int64_t begin = product.first_input + tile.input;
  const std::int64_t end = begin + tile.inputs;
  std::int64_t group = begin / product.scale_inputs;
  std::int64_t group_end = (group + 1) * product.scale_inputs;
  for (std::int64_t at = begin; at < end; ++group, group_end += product.scale_inputs) {
    typename Isa::Reg scales[kCount];
    for (int j = 0; j < kCount; ++j) {
      const int lane = (j % Isa::kRegs) * Isa::kWidth;
      scales[j] = Codes::scales(product, panels[j / Isa::kRegs], group, lane);
    }
    const std::int64_t stop = group_end < end ? group_end : end;
    for (; at < stop; at += kWord) {
      typename Isa::Pairs words[kCount];
      for (int j = 0; j < kCount; ++j) {
        const std::int64_t lane = (j % Isa::kRegs) * Isa::kWidth;
        words[j] = Isa::load_pairs(
            panels[j / Isa::kRegs] + product.codes_begin + (at / kWord * kLanes + lane) * 4
        );
      }
      const auto at_place = [&](int place, const typename Isa::Reg(&weights)[kCount])
          __attribute__((always_inline)) {
        body(at - begin + place, weights);
      };
      if (stop - at >= kWord) {
        decode_word<Isa, Codes, kCount, 0>(words, scales, kWord, at_place);
      } else {
        decode_word<Isa, Codes, kCount, 0>(words, scales, stop - at, at_place);
      }
    }
  }
}

// Tiles of few rows.
template <typename Isa, typename Codes>
struct CodedTiles {
  static constexpr int kRowTile = Isa::kDecodeRowTile;
  static constexpr int kTileRegs = Isa::kDecodeTileRegs;
  static constexpr int kRegs = Isa::kRegs;

  template <int kRows, int kPanels>
  static void run(const PanelProduct& product, const Tile& tile) {
    constexpr int kCount = kPanels * Isa::kRegs;
    const float* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = x_line<Isa>(product, tile.row + r) + tile.input;
    }
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): load() fills it.
    TileSums<Isa, kRows, kPanels> sums;
    sums.load(product, tile);
    const auto add = [&](std::int64_t input, const typename Isa::Reg(&weights)[kCount])
        __attribute__((always_inline)) {
      for (int r = 0; r < kRows; ++r) {
        const typename Isa::Reg value = Isa::broadcast(x[r][input]);
        for (int j = 0; j < kCount; ++j) {
          sums.regs[r][j] = Isa::fma(value, weights[j], sums.regs[r][j]);
        }
      }
    };
    for_weights<Isa, Codes, kPanels>(product, tile, add);
    sums.store(product, tile);
  }
};

// Floats that hold a stretch of some panels: a first-level cache has room for them and for x.
inline constexpr std::int64_t kDecodedLines = 256;  // of 16 floats

// Decodes the inputs of a tile of kPanels panels to out[kPanels][kDecodedLines / kPanels][16].
template <typename Isa, typename Codes>
struct Decoded {
  template <int kPanels>
  static void run(const PanelProduct& product, const Tile& tile, float* out) {
    constexpr int kCount = kPanels * Isa::kRegs;
    const auto store = [&](std::int64_t input, const typename Isa::Reg(&weights)[kCount])
        __attribute__((always_inline)) {
      for (int j = 0; j < kCount; ++j) {
        const std::int64_t line = j / Isa::kRegs * (kDecodedLines / kPanels) + input;
        Isa::store(out + line * kLanes + (j % Isa::kRegs) * Isa::kWidth, weights[j]);
      }
    };
    for_weights<Isa, Codes, kPanels>(product, tile, store);
  }

  static void run(const PanelProduct& product, const Tile& tile, std::int64_t panels, float* out) {
    if (panels == 4) {
      run<4>(product, tile, out);
    } else if (panels == 2) {
      run<2>(product, tile, out);
    } else {
      run<1>(product, tile, out);
    }
  }
};

template <typename Isa, typename Codes>
void few_coded_rows(const PanelProduct& product) {
  using Tiles = CodedTiles<Isa, Codes>;
  const std::int64_t panels = (product.outputs + kLanes - 1) / kLanes;
  std::int64_t taken = panels_for<Tiles>(product.rows);
  for (std::int64_t panel = 0; panel < panels; panel += taken) {
    while (taken > panels - panel) {
      taken /= 2;
    }
    run_tile<Tiles, Tiles>(product, Tile{0, panel, 0, product.inputs}, product.rows, taken);
  }
}

// One stretch of inputs of some panels for all rows. `decoded`: kDecodedLines lines.
template <typename Isa, typename Codes>
void many_coded_rows(
    const PanelProduct& product,
    const Tile& stretch,
    std::int64_t panels,
    float* decoded
) {
  Decoded<Isa, Codes>::run(product, stretch, panels, decoded);
  PanelProduct floats = product;
  const std::int64_t left = product.outputs - stretch.panel * kLanes;
  floats.x += stretch.input;
  floats.weight = reinterpret_cast<const std::byte*>(decoded);
  floats.panel_step = kDecodedLines / panels * kLanes * 4;
  floats.inputs = stretch.inputs;
  floats.outputs = left < panels * kLanes ? left : panels * kLanes;
  floats.y += stretch.panel * kLanes;
  if (product.bias != nullptr) floats.bias += stretch.panel * kLanes;
  floats.accumulate = product.accumulate || stretch.input > 0;
  floats.round_output = product.round_output && stretch.input + stretch.inputs == product.inputs;
  for (std::int64_t row = 0; row < product.rows; row += Isa::kRowTile) {
    const std::int64_t rows =
        product.rows - row < Isa::kRowTile ? product.rows - row : Isa::kRowTile;
    run_tile<Isa, FloatTiles<Isa>>(floats, Tile{row, 0, 0, stretch.inputs}, rows, panels);
  }
}

template <typename Isa, typename Codes>
void coded_product(const PanelProduct& product) {
  if (product.rows <= Isa::kDecodeRowTile) {
    few_coded_rows<Isa, Codes>(product);
    return;
  }
  alignas(64) float decoded[kDecodedLines * kLanes];
  const std::int64_t panels = (product.outputs + kLanes - 1) / kLanes;
  const std::int64_t group = panels_for<Isa>(product.rows) < 4 ? panels_for<Isa>(product.rows) : 4;
  for (std::int64_t block = 0; block < product.inputs; block += kInputBlock) {
    const std::int64_t left = product.inputs - block;
    const std::int64_t block_end = block + (left < kInputBlock ? left : kInputBlock);
    std::int64_t taken = group;
    for (std::int64_t panel = 0; panel < panels; panel += taken) {
      while (taken > panels - panel) {
        taken /= 2;
      }
      const std::int64_t most = kDecodedLines / taken;
      for (std::int64_t input = block; input < block_end; input += most) {
        const std::int64_t inputs = block_end - input < most ? block_end - input : most;
        many_coded_rows<Isa, Codes>(product, Tile{0, panel, input, inputs}, taken, decoded);
      }
    }
  }
}

}  // namespace pleiad::kernels::detail
