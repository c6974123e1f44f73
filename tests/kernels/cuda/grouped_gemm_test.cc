// Also tests: tensor_map.cc, grouped_gemm_pack.cu
#include "kernels/cuda/grouped_gemm.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "device/cuda/graph.h"
#include "device/dtype.h"
#include "tests/kernels/cuda/grouped_trial.h"

namespace pleiad::kernels::cuda {
namespace {

constexpr std::uint32_t kSeed = 20261123;
constexpr GroupedTile kTiles[] =
    {{64, 1}, {256, 1}, {256, 2}, {64, 1, 96}, {64, 1, 80}, {256, 1, 112}, {256, 1, 16}};

// What one output must be, from the sums in double.
double expected(
    const GroupedShape& shape,
    const std::vector<double>& sums,
    std::int64_t row,
    std::int64_t o
) {
  const double* line = sums.data() + row * shape.outputs;
  if (shape.output != GroupedOutput::SwiGlu) return line[o];
  return line[o] / (1.0 + std::exp(-line[o])) * line[shape.outputs / 2 + o];
}

double value_at(const GroupedShape& shape, const GroupedResult& result, std::int64_t at) {
  if (shape.output == GroupedOutput::Float32) {
    float value = 0;
    std::memcpy(&value, result.words.data() + 2 * at, 4);
    return static_cast<double>(value);
  }
  const std::uint32_t bits = std::uint32_t{result.words[static_cast<std::size_t>(at)]} << 16U;
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return static_cast<double>(value);
}

// Empty when `result` is near the sums and its guard rows are untouched; else where it differs and
// how.
std::string difference(
    const GroupedShape& shape,
    const GroupedResult& result,
    const std::vector<double>& sums
) {
  const std::int64_t width =
      shape.output == GroupedOutput::SwiGlu ? shape.outputs / 2 : shape.outputs;
  const auto rows = static_cast<std::int64_t>(sums.size()) / shape.outputs;
  // Float sums of products up to one, of random signs; a BF16 output is rounded to eight bits too.
  // The tensor cores keep fewer bits of FP8 sums; scales go up to two on both sides.
  const double scale_max = shape.format == GroupedFormat::Fp8Blocks ? 4.0 * 40 : 1.0;
  const double noise = 4e-6 * std::sqrt(static_cast<double>(shape.inputs)) * 16 * scale_max;
  std::string text;
  std::int64_t wrong = 0;
  for (std::int64_t at = 0; at < rows * width; ++at) {
    const double want = expected(shape, sums, at / width, at % width);
    const double got = value_at(shape, result, at);
    const double scale = shape.output == GroupedOutput::SwiGlu ? 1.0 + std::abs(want) : 1.0;
    const double rounding = shape.output == GroupedOutput::Float32 ? 0.0 : std::abs(want) / 256;
    if (std::abs(got - want) <= noise * scale * 2 + rounding) continue;
    if (wrong++ < 6)
      text += fmt::format("[{}, {}] is {}, not {}; ", at / width, at % width, got, want);
  }
  for (auto at = static_cast<std::size_t>(rows * result.row_words); at < result.words.size();
       ++at) {
    if (result.words[at] != 0xFFFF) return text + fmt::format("guard word {} was written", at);
  }
  if (wrong > 0) text += fmt::format("{} of {} wrong", wrong, rows * width);
  return text;
}

GroupedRows
random_rows(std::mt19937& random, const std::vector<std::int32_t>& counts, std::int64_t pool) {
  GroupedRows rows{.counts = counts, .index = {}, .weights = {}};
  const std::int32_t total = starts_of(counts).back();
  std::uniform_int_distribution<std::int32_t> pick(0, static_cast<std::int32_t>(pool) - 1);
  for (std::int32_t i = 0; i < total; ++i) {
    rows.index.push_back(pick(random));
  }
  return rows;
}

std::vector<GroupedTile> tiles_for(const GroupedShape& shape) {
  std::vector<GroupedTile> tiles;
  for (const GroupedTile& tile : kTiles) {
    if (grouped_tile_fits(shape, tile)) tiles.push_back(tile);
  }
  return tiles;
}

std::vector<GroupedShape> shapes(GroupedFormat format) {
  std::vector<GroupedShape> out;
  for (const auto output :
       {GroupedOutput::BFloat16, GroupedOutput::Float32, GroupedOutput::SwiGlu}) {
    for (const bool gathered : {false, true}) {
      out.push_back(
          {.experts = 5,
           .outputs = 512,
           .inputs = 640,
           .format = format,
           .output = output,
           .gathered = gathered}
      );
    }
  }
  out.push_back({.experts = 3, .outputs = 384, .inputs = 128, .format = format});
  return out;
}

class GroupedGemm : public testing::TestWithParam<GroupedFormat> {
 protected:
  device::cuda::Stream stream = device::cuda::Stream::create({}).value();
  std::mt19937 random{kSeed};
};

TEST_P(GroupedGemm, IsNearTheReferenceForRaggedCountsAndWritesNothingElse) {
  for (GroupedShape shape : shapes(GetParam())) {
    shape.rows_max = 1;
    const GroupedWorld world(stream, shape, 64, kSeed);
    const std::vector<std::vector<std::int32_t>> cases =
        shape.experts == 5
            ? std::vector<std::vector<
                  std::int32_t>>{{0, 1, 0, 7, 0}, {9, 0, 33, 16, 2}, {300, 65, 0, 129, 190}}
            : std::vector<std::vector<std::int32_t>>{{0, 0, 1}, {70, 3, 257}};
    for (const auto& counts : cases) {
      const GroupedRows rows = random_rows(random, counts, world.pool_rows);
      const auto sums = reference_of(world, rows);
      for (const GroupedTile& tile : tiles_for(shape)) {
        EXPECT_EQ(difference(shape, run_grouped(world, rows, tile), sums), "")
            << text_of(shape, tile);
      }
    }
  }
}

TEST_P(GroupedGemm, WithoutRowsNothingIsWritten) {
  const GroupedShape shape{
      .experts = 4, .outputs = 256, .inputs = 128, .rows_max = 1, .format = GetParam()};
  const GroupedWorld world(stream, shape, 8, kSeed);
  const GroupedResult result = run_grouped(world, {.counts = {0, 0, 0, 0}, .index = {}}, {64, 1});
  for (const std::uint16_t word : result.words) {
    ASSERT_EQ(word, 0xFFFF);
  }
}

// How many rows of `result` differ in any bit from the rows of `all` they are.
int rows_that_differ(
    const GroupedResult& result,
    const GroupedResult& all,
    const GroupedRows& rows
) {
  int differing = 0;
  for (std::size_t r = 0; r < rows.index.size(); ++r) {
    const auto words = static_cast<std::size_t>(result.row_words);
    const auto* ours = result.words.data() + r * words;
    const auto* theirs = all.words.data() + static_cast<std::size_t>(rows.index[r]) * words;
    if (std::memcmp(ours, theirs, words * 2) != 0) ++differing;
  }
  return differing;
}

TEST_P(GroupedGemm, ARowsBitsDependOnNeitherCountsNorPlacesNorTiles) {
  constexpr std::int32_t kPool = 1024;
  for (const std::int32_t inputs : {7168, 2048, 768}) {
    for (const auto output : {GroupedOutput::Float32, GroupedOutput::SwiGlu}) {
      GroupedShape shape{
          .experts = 3,
          .outputs = 256,
          .inputs = inputs,
          .rows_max = 1,
          .format = GetParam(),
          .output = output};
      GroupedWorld world(stream, shape, kPool, kSeed + 7);
      GroupedRows all{.counts = {0, kPool, 0}, .index = {}};
      for (std::int32_t i = 0; i < kPool; ++i) {
        all.index.push_back(i);
      }
      const GroupedResult canonical = run_grouped(world, all, {64, 1});
      for (const std::int32_t count : {1,  2,   3,   7,   8,   9,   15,  17,  31,  33,  63,  64,
                                       65, 100, 128, 129, 191, 193, 255, 256, 257, 511, 1024}) {
        for (const bool gathered : {false, true}) {
          world.shape.gathered = gathered;
          for (const GroupedTile& tile : tiles_for(world.shape)) {
            GroupedRows rows = random_rows(random, {0, count, 0}, kPool);
            EXPECT_EQ(rows_that_differ(run_grouped(world, rows, tile), canonical, rows), 0)
                << count << " rows, " << text_of(world.shape, tile);
          }
        }
      }
    }
  }
}

TEST_P(GroupedGemm, OtherExpertsRowsAndTheirPlaceChangeNoBit) {
  const GroupedShape shape{
      .experts = 6, .outputs = 256, .inputs = 1024, .rows_max = 1, .format = GetParam()};
  GroupedWorld world(stream, shape, 256, kSeed + 9);
  std::vector<GroupedResult> canonical;
  GroupedRows all;
  for (std::int32_t i = 0; i < 256; ++i) {
    all.index.push_back(i);
  }
  for (std::size_t expert = 0; expert < 6; ++expert) {
    all.counts.assign(6, 0);
    all.counts[expert] = 256;
    canonical.push_back(run_grouped(world, all, {64, 1}));
  }
  std::uniform_int_distribution<std::int32_t> pick(0, 90);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::int32_t> counts;
    for (int expert = 0; expert < 6; ++expert) {
      counts.push_back(std::max(0, pick(random) - 20));
    }
    const GroupedRows rows = random_rows(random, counts, 256);
    const auto starts = starts_of(counts);
    for (const GroupedTile& tile : tiles_for(world.shape)) {
      const GroupedResult result = run_grouped(world, rows, tile);
      for (std::size_t expert = 0; expert < 6; ++expert) {
        GroupedRows part;
        GroupedResult piece{.words = {}, .row_words = result.row_words};
        for (auto r = starts[expert]; r < starts[expert + 1]; ++r) {
          part.index.push_back(rows.index[static_cast<std::size_t>(r)]);
        }
        piece.words.assign(
            result.words.begin() + starts[expert] * result.row_words,
            result.words.begin() + starts[expert + 1] * result.row_words
        );
        EXPECT_EQ(rows_that_differ(piece, canonical[expert], part), 0) << text_of(shape, tile);
      }
    }
  }
}

TEST_P(GroupedGemm, FetchingWeightsBeforeTheRowsAreMadeChangesNoBit) {
  const GroupedShape shape{
      .experts = 4, .outputs = 1024, .inputs = 1024, .rows_max = 1, .format = GetParam()};
  GroupedWorld world(stream, shape, 64, kSeed + 11);
  const GroupedRows rows = random_rows(random, {3, 0, 9, 1}, 64);
  for (const bool gathered : {false, true}) {
    world.shape.gathered = gathered;
    for (const GroupedTile& tile : tiles_for(world.shape)) {
      const GroupedResult late = run_grouped(world, rows, tile);
      world.early = true;
      const GroupedResult early = run_grouped(world, rows, tile);
      world.early = false;
      EXPECT_EQ(late.words, early.words) << text_of(world.shape, tile);
    }
  }
}

TEST_P(GroupedGemm, WeightsOfRowsMultiplyTheirSumsBeforeRounding) {
  for (const bool gathered : {false, true}) {
    GroupedShape shape{
        .experts = 4,
        .outputs = 512,
        .inputs = 256,
        .rows_max = 1,
        .format = GetParam(),
        .gathered = gathered};
    GroupedWorld world(stream, shape, 64, kSeed);
    for (const std::vector<std::int32_t>& counts :
         {std::vector<std::int32_t>{1, 0, 3, 9}, {300, 5, 64, 131}}) {
      GroupedRows rows = random_rows(random, counts, world.pool_rows);
      for (const GroupedTile& tile : tiles_for(shape)) {
        rows.weights.clear();
        world.shape.output = GroupedOutput::Float32;
        const GroupedResult sums = run_grouped(world, rows, tile, 0);
        world.shape.output = GroupedOutput::BFloat16;
        std::uniform_real_distribution<float> any(-2.0F, 2.0F);
        for (std::size_t r = 0; r < rows.index.size(); ++r) {
          rows.weights.push_back(any(random));
        }
        const GroupedResult weighted = run_grouped(world, rows, tile, 0);
        std::int64_t wrong = 0;
        for (std::size_t at = 0; at < weighted.words.size(); ++at) {
          float sum = 0;
          std::memcpy(&sum, sums.words.data() + 2 * at, 4);
          const float weight = rows.weights[at / 512];
          wrong += weighted.words[at] != device::float_to_bf16(sum * weight) ? 1 : 0;
        }
        EXPECT_EQ(wrong, 0) << text_of(world.shape, tile);
      }
    }
  }
}

TEST_P(GroupedGemm, ARecordedProductReadsTheCountsAnew) {
  const GroupedShape shape{
      .experts = 3, .outputs = 256, .inputs = 256, .rows_max = 40, .format = GetParam()};
  const GroupedWorld world(stream, shape, 40, kSeed + 13);
  const auto starts = gpu_bytes(16);
  const auto out = gpu_bytes(40 * 256 * 2);
  const GroupedGemmTask task{
      .shape = shape,
      .weights = {.packed = world.packed.data(), .scales = world.weight_scales.as<float>()},
      .x = world.pool.data(),
      .x_rows = 40,
      .x_scales = world.pool_scales.as<float>(),
      .x_scale_stride = 40,
      .starts = starts.as<std::int32_t>(),
      .out = out.data()};
  const auto graph = device::cuda::Graph::record(stream, [&] {
                       grouped_gemm(stream, task);
                       return stream.result();
                     }).value();
  for (const std::vector<std::int32_t>& counts : {std::vector{0, 3, 37}, {0, 0, 0}, {9, 0, 2}}) {
    GroupedRows rows{.counts = counts, .index = {}};
    const auto begins = starts_of(counts);
    for (std::int32_t i = 0; i < begins.back(); ++i) {
      rows.index.push_back(i);
    }
    const GroupedResult alone = run_grouped(world, rows, {64, 1}, 40 - begins.back());
    stream.copy_to_device(starts.data(), begins.data(), 16);
    stream.fill(out.data(), 0xFF, 40 * 256 * 2);

    graph.launch(stream);

    EXPECT_EQ(from_gpu<std::uint16_t>(stream, out.data(), 40 * 256), alone.words);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats,
    GroupedGemm,
    testing::Values(GroupedFormat::BFloat16, GroupedFormat::Fp8Blocks)
);

}  // namespace
}  // namespace pleiad::kernels::cuda
