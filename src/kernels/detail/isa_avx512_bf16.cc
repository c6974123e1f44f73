#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/detail/isa_table.h"
#include "kernels/detail/lanes_avx512.h"

// PanelProduct with BF16 weights by vdpbf16ps: sum += x[2k] W[2k] + x[2k+1] W[2k+1] in each of 16
// lanes. Rows of x are first packed to pairs of BF16 (they are representable, so nothing is lost
// but denormals, which the instruction takes as zero), a block of inputs at a time, on the stack.
namespace pleiad::kernels::detail {
namespace {

// A block of inputs packed for one row, and how far apart such blocks lie: not a power of two, so
// that the rows of a tile do not fall on one cache set.
constexpr std::int64_t kBlockPairs = 256;
constexpr std::int64_t kBlockStep = kBlockPairs + 16;
constexpr std::int64_t kBlocks = kRowBlock;
constexpr std::int64_t kDotRows = 12;
constexpr std::int64_t kDotRegs = 24;

using PackedBlock = std::uint32_t[kBlockStep];

// Packs `inputs` floats; an odd tail is paired with zero.
void pack_line(const float* x, std::int64_t inputs, std::uint32_t* out) {
  for (std::int64_t i = 0; i < inputs; i += 32) {
    const __m512 low = Avx512::load_first(x + i, inputs - i, 0.0F);
    const __m512 high = Avx512::load_first(x + i + 16, inputs - i - 16, 0.0F);
    const __m512bh pairs = _mm512_cvtne2ps_pbh(high, low);
    __builtin_memcpy(out + i / 2, &pairs, sizeof(pairs));
  }
}

struct DotTile {
  std::int64_t row;
  std::int64_t panel;
  std::int64_t input;
  std::int64_t inputs;
  const PackedBlock* x;  // the tile's rows, one block each
};

template <int kRows, int kPanels>
void dot_tile(const PanelProduct& product, const DotTile& at) {
  const Tile tile = {at.row, at.panel, at.input, at.inputs};
  const std::byte* w[kPanels];
  for (int p = 0; p < kPanels; ++p) {
    w[p] = panel_at<Avx512>(product, at.panel + p) + at.input * kLanes * 2;
  }
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): load() fills it.
  TileSums<Avx512, kRows, kPanels> sums;
  sums.load(product, tile);
  const std::int64_t pairs = (at.inputs + 1) / 2;
  for (std::int64_t k = 0; k < pairs; ++k) {
    __m512bh weight[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      __builtin_memcpy(&weight[p], w[p] + k * 64, 64);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512i bits = _mm512_set1_epi32(static_cast<int>(at.x[r][k]));
      __m512bh value;
      __builtin_memcpy(&value, &bits, sizeof(value));
      for (int p = 0; p < kPanels; ++p) {
        sums.regs[r][p] = _mm512_dpbf16_ps(sums.regs[r][p], value, weight[p]);
      }
    }
  }
  sums.store(product, tile);
}

template <int kPanels, int kRows>
void run_dot_rows(const PanelProduct& product, const DotTile& tile, std::int64_t rows) {
  if constexpr (kRows * kPanels <= kDotRegs) {
    if (rows == kRows) {
      dot_tile<kRows, kPanels>(product, tile);
      return;
    }
  }
  if constexpr (kRows > 1) run_dot_rows<kPanels, kRows - 1>(product, tile, rows);
}

void run_dot_tile(
    const PanelProduct& product,
    const DotTile& tile,
    std::int64_t rows,
    std::int64_t panels
) {
  if (panels == 8) {
    run_dot_rows<8, kDotRows>(product, tile, rows);
  } else if (panels == 4) {
    run_dot_rows<4, kDotRows>(product, tile, rows);
  } else if (panels == 2) {
    run_dot_rows<2, kDotRows>(product, tile, rows);
  } else {
    run_dot_rows<1, kDotRows>(product, tile, rows);
  }
}

std::int64_t dot_panels_for(std::int64_t rows) {
  const std::int64_t tile_rows = rows < kDotRows ? rows : kDotRows;
  std::int64_t panels = kPanelGroup;
  while (tile_rows * panels > kDotRegs) {
    panels /= 2;
  }
  return panels;
}

void pack_block(
    const PanelProduct& product,
    std::int64_t input,
    std::int64_t inputs,
    PackedBlock* blocks
) {
  for (std::int64_t row = 0; row < product.rows; ++row) {
    pack_line(x_line<Avx512>(product, row) + input, inputs, blocks[row]);
  }
}

// One block of inputs of the panels [panel, panel + panels) for all rows.
void run_dot_panels(const PanelProduct& product, const DotTile& first, std::int64_t panels) {
  for (std::int64_t row = 0; row < product.rows; row += kDotRows) {
    const std::int64_t left = product.rows - row;
    const DotTile tile = {row, first.panel, first.input, first.inputs, first.x + row};
    run_dot_tile(product, tile, left < kDotRows ? left : kDotRows, panels);
  }
}

// Few rows: all of x fits the stack, and each panel is read from end to end.
void dot_few_rows(const PanelProduct& product, PackedBlock* blocks) {
  constexpr std::int64_t kInputs = kBlockPairs * 2;
  for (std::int64_t input = 0; input < product.inputs; input += kInputs) {
    const std::int64_t left = product.inputs - input;
    pack_block(
        product, input, left < kInputs ? left : kInputs, blocks + input / kInputs * product.rows
    );
  }
  const std::int64_t panels = (product.outputs + kLanes - 1) / kLanes;
  std::int64_t taken = dot_panels_for(product.rows);
  for (std::int64_t panel = 0; panel < panels; panel += taken) {
    while (taken > panels - panel) {
      taken /= 2;
    }
    for (std::int64_t input = 0; input < product.inputs; input += kInputs) {
      const std::int64_t left = product.inputs - input;
      const PackedBlock* x = blocks + input / kInputs * product.rows;
      run_dot_panels(product, {0, panel, input, left < kInputs ? left : kInputs, x}, taken);
    }
  }
}

// Many rows: a block of inputs of all rows at a time.
void dot_many_rows(const PanelProduct& product, PackedBlock* blocks) {
  constexpr std::int64_t kInputs = kBlockPairs * 2;
  const std::int64_t panels = (product.outputs + kLanes - 1) / kLanes;
  for (std::int64_t input = 0; input < product.inputs; input += kInputs) {
    const std::int64_t left = product.inputs - input;
    const std::int64_t inputs = left < kInputs ? left : kInputs;
    pack_block(product, input, inputs, blocks);
    std::int64_t taken = dot_panels_for(product.rows);
    for (std::int64_t panel = 0; panel < panels; panel += taken) {
      while (taken > panels - panel) {
        taken /= 2;
      }
      run_dot_panels(product, {0, panel, input, inputs, blocks}, taken);
    }
  }
}

// REQUIRES: product.rows <= kRowBlock.
void dot_product(const PanelProduct& product) {
  alignas(64) PackedBlock blocks[kBlocks];
  const std::int64_t steps = (product.inputs + 2 * kBlockPairs - 1) / (2 * kBlockPairs);
  if (steps * product.rows <= kBlocks) {
    dot_few_rows(product, blocks);
  } else {
    dot_many_rows(product, blocks);
  }
}

// Products of bytes by vpdpbusd: four inputs at a time.
struct Avx512Vnni : Avx512 {
  struct Bytes {
    __m512i words;
  };
  static constexpr int kQuadBytes = 4;

  static void store_quad(const std::int32_t* q, std::byte* out) {
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
    const __m128i halves = _mm_packs_epi32(four, four);
    const int bytes = _mm_cvtsi128_si32(_mm_packs_epi16(halves, halves));
    __builtin_memcpy(out, &bytes, sizeof(bytes));
  }
  static Bytes split_bytes(Pairs words) { return {words}; }
  static Ints dot(Ints sum, Bytes w, const std::byte* quad) {
    int x = 0;
    __builtin_memcpy(&x, quad, sizeof(x));
    return _mm512_dpbusd_epi32(sum, w.words, _mm512_set1_epi32(x));
  }
};

constexpr IsaKernels kTable = table_of<Avx512, Avx512Vnni>(dot_product);

}  // namespace

const IsaKernels& avx512_bf16_kernels() {
  return kTable;
}

}  // namespace pleiad::kernels::detail

#endif
