#pragma once

#include <cstdint>

// The words of grouped products on the GPU, for host and device code.
namespace pleiad::kernels::cuda {

constexpr std::int32_t kGroupedExpertsMax = 512;

// How weights and activations are stored.
enum class GroupedFormat {
  BFloat16,
  Fp8Blocks,  // E4M3; weights with a scale per 128x128 block, activations with one per row and 128
              // inputs
};

// What becomes of a product's sums.
enum class GroupedOutput {
  BFloat16,  // rounded
  Float32,
  SwiGlu,  // silu(gate) * up, rounded to BFloat16; half as many columns
};

// In which order packing puts an expert's weight rows.
enum class GroupedLayout {
  Plain,  // for BFloat16 and Float32 outputs
  Gated,  // for SwiGlu: the first half of the rows is the gate, the second half up
};

struct GroupedShape {
  std::int32_t experts = 0;
  std::int32_t outputs = 0;   // weight rows of an expert; of a gated matrix, gate and up together
  std::int32_t inputs = 0;    // K
  std::int64_t rows_max = 0;  // activation rows of all experts together, at most
  GroupedFormat format = GroupedFormat::BFloat16;
  GroupedOutput output = GroupedOutput::BFloat16;
  bool gathered = false;  // rows come through an index list
};

// Inputs that a tile takes at once, 128 bytes of them, and that K must be a multiple of.
[[nodiscard]] constexpr std::int32_t grouped_step(GroupedFormat format) {
  return format == GroupedFormat::BFloat16 ? 64 : 128;
}

// Bytes of `experts` packed matrices, as many as of stored ones.
[[nodiscard]] constexpr std::int64_t grouped_packed_bytes(
    GroupedFormat format,
    std::int64_t experts,
    std::int64_t outputs,
    std::int64_t inputs
) {
  return experts * outputs * inputs * (format == GroupedFormat::BFloat16 ? 2 : 1);
}

// The weight row (of the stored matrix) that packing puts at `place`, [0, outputs).
[[nodiscard]] constexpr std::int64_t
grouped_stored_row(GroupedLayout layout, std::int64_t outputs, std::int64_t place) {
  // The tensor cores leave a thread the sums of rows g and g + 8 of each sixteen: neighbours in the
  // output, or the gate and the up of one output.
  const std::int64_t sixteen = place / 16;
  const std::int64_t half = place / 8 % 2;
  const std::int64_t g = place % 8;
  if (layout == GroupedLayout::Plain) return sixteen * 16 + 2 * g + half;
  return half * (outputs / 2) + sixteen * 8 + g;
}

// The tile of a launch. Bits do not depend on it.
struct GroupedTile {
  // Activation rows, at most: 64; many are 256 of BFloat16 or gathered rows, else 128 (FP8).
  std::int32_t rows = 64;
  std::int32_t cluster =
      1;  // blocks that share their activation rows: 1 or, of 256 BFloat16 rows, 2
  // Weight rows, at most: with 128 activation rows 256, in a cluster 128, else a multiple of 16 up
  // to 128.
  std::int32_t outputs = 128;

  friend bool operator==(const GroupedTile&, const GroupedTile&) = default;
};

// Weights to bring into the form that grouped_gemm.h describes.
struct PackGroupedTask {
  const void* stored =
      nullptr;             // [experts, outputs, inputs], dense, in device memory, 16-byte aligned
  void* packed = nullptr;  // grouped_packed_bytes()
  std::int64_t experts = 0;
  std::int32_t outputs = 0;
  std::int32_t inputs = 0;
  GroupedFormat format = GroupedFormat::BFloat16;
  GroupedLayout layout = GroupedLayout::Plain;
};

}  // namespace pleiad::kernels::cuda
