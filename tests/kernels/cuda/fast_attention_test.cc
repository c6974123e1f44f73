#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/kernels/cuda/attention_scene.h"

// Attention on the tensor cores: its figures against the specification, and that a row's bits are
// the same however it comes.
namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::Model;
using testing::Row;
using testing::Scene;

constexpr std::array kModels = {
    Model{.heads = 32, .kv_heads = 4, .first = 128, .value = 128, .dtype = DType::BF16},
    Model{.heads = 8, .kv_heads = 8, .first = 64, .value = 64, .sinks = true, .dtype = DType::BF16},
    Model{
        .heads = 16,
        .kv_heads = 2,
        .first = 64,
        .value = 64,
        .window = 100,
        .sinks = true,
        .dtype = DType::BF16},
    Model{
        .heads = 12,
        .kv_heads = 2,
        .first = 128,
        .value = 128,
        .window = 700,
        .dtype = DType::BF16},
    Model{.heads = 3, .kv_heads = 1, .first = 128, .value = 128, .dtype = DType::BF16},
    Model{.heads = 16, .first = 512, .second = 64, .dtype = DType::BF16},
    Model{.heads = 128, .first = 512, .second = 64, .dtype = DType::BF16},
    Model{.heads = 20, .first = 512, .second = 64, .dtype = DType::BF16},
};

// Rows [first, last] of a sequence.
std::vector<Row> chunk(std::size_t sequence, std::int64_t first, std::int64_t last) {
  std::vector<Row> rows;
  for (std::int64_t position = first; position <= last; ++position) {
    rows.push_back({sequence, position});
  }
  return rows;
}

std::vector<Row> joined(std::vector<Row> rows, const std::vector<Row>& more) {
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

// Rows of `from` in its order whose sequence and position are those of `row`.
std::span<const float>
outputs_of(const std::vector<Row>& rows, const std::vector<float>& outputs, const Row& row) {
  const std::size_t line = outputs.size() / rows.size();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const bool is_it = rows[r].sequence == row.sequence && rows[r].position == row.position;
    if (is_it) return std::span(outputs).subspan(r * line, line);
  }
  return {};
}

// How many rows of `part` came out other than among `whole`.
int strangers(
    Scene& scene,
    const std::vector<Row>& whole,
    const std::vector<float>& expected,
    const std::vector<Row>& part,
    bool spread
) {
  const auto outputs = scene.run(part, spread);
  int count = 0;
  for (const Row& row : part) {
    const auto left = outputs_of(part, outputs, row);
    const auto right = outputs_of(whole, expected, row);
    count += std::ranges::equal(left, right) && !left.empty() ? 0 : 1;
  }
  return count;
}

class FastAttention : public ::testing::TestWithParam<std::size_t> {
 protected:
  [[nodiscard]] const Model& model() const { return kModels.at(GetParam()); }
};

TEST_P(FastAttention, MatchesTheSpecification) {
  Random random(GetParam());
  Scene scene(random, model(), {1, 64, 200, 700});
  ASSERT_NE(scene.plan().path, AttentionPath::Generic);
  std::vector<Row> rows = {{0, 0}, {1, 63}, {2, 0}, {2, 70}, {2, 199}, {3, 500}};
  rows = joined(rows, chunk(3, 505, 514));
  rows = joined(rows, chunk(3, 697, 699));
  const auto expected = scene.reference(rows);
  for (const bool spread : {false, true}) {
    const float worst = testing::largest_difference(scene.run(rows, spread), expected);
    EXPECT_LE(worst, 0.02F) << "spread " << spread;
  }
}

// Teams of blocks, and few stretches as well as many.
TEST_P(FastAttention, MatchesTheSpecificationRowByRow) {
  Random random(400 + GetParam());
  Scene scene(random, model(), {1200});
  for (const std::int64_t position : {60, 127, 150, 700, 1100}) {
    const std::vector<Row> rows = {{0, position}};
    const float worst = testing::largest_difference(scene.run(rows, true), scene.reference(rows));
    EXPECT_LE(worst, 0.02F) << "position " << position;
  }
}

TEST_P(FastAttention, MatchesTheSpecificationOnAWholePrompt) {
  Random random(100 + GetParam());
  // More rows than a step of decoding has, unless the specification takes too long.
  const std::int64_t last = model().heads > 64 ? 79 : 149;
  Scene scene(random, model(), {last + 1});
  const auto rows = chunk(0, 0, last);
  EXPECT_LE(testing::largest_difference(scene.run(rows, false), scene.reference(rows)), 0.02F);
}

// DESIGN R2.
TEST_P(FastAttention, ARowHasTheSameBitsInAPromptAChunkABatchAndAlone) {
  Random random(200 + GetParam());
  Scene scene(random, model(), {150, 1500});
  const auto prompt = joined(chunk(0, 0, 149), chunk(1, 1100, 1499));
  const auto expected = scene.run(prompt, false);
  ASSERT_EQ(strangers(scene, prompt, expected, prompt, true), 0);

  int others = 0;
  // Chunks that begin anywhere in a tile, few rows and many.
  for (const std::int64_t step : {3, 37, 150}) {
    for (std::int64_t first = 1100; first < 1500; first += step) {
      const auto rows = chunk(1, first, std::min<std::int64_t>(first + step - 1, 1499));
      if (first % 4 == 0 || step > 3) others += strangers(scene, prompt, expected, rows, true);
    }
  }
  EXPECT_EQ(others, 0) << "in chunks";
  for (const std::int64_t position : {1100, 1151, 1152, 1280, 1301, 1499}) {
    others += strangers(scene, prompt, expected, {{1, position}}, true);
    others += strangers(scene, prompt, expected, {{1, position}}, false);
  }
  EXPECT_EQ(others, 0) << "alone";
  // Every row a tile of its own, in an order without neighbours; more tiles than blocks, several
  // times, since blocks that take up the next one too early do so by chance.
  std::vector<Row> batch;
  for (std::int64_t i = 0; i < 400; ++i) {
    batch.push_back({1, 1100 + i * 171 % 400});
  }
  for (int turn = 0; turn < 10; ++turn) {
    others += strangers(scene, prompt, expected, batch, true);
  }
  batch.resize(100);
  others += strangers(scene, prompt, expected, batch, true);
  EXPECT_EQ(others, 0) << "in a batch";
}

TEST_P(FastAttention, RowsWithoutAPositionAreZeroAndDisturbNobody) {
  Random random(300 + GetParam());
  Scene scene(random, model(), {200});
  const std::vector<Row> rows = {{0, 150}, {0, -1}, {0, 151}, {0, 152}, {0, -1}};
  const auto outputs = scene.run(rows, true);
  const std::size_t line = outputs.size() / rows.size();

  for (const std::size_t r : {1U, 4U}) {
    const auto row = std::span(outputs).subspan(r * line, line);
    EXPECT_TRUE(std::ranges::all_of(row, [](float value) { return value == 0.0F; }));
  }
  EXPECT_EQ(strangers(scene, rows, outputs, {{0, 150}}, true), 0);
  EXPECT_EQ(strangers(scene, rows, outputs, chunk(0, 151, 152), true), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, FastAttention, ::testing::Range(std::size_t{0}, kModels.size()));

// Where longer stretches begin, tiles end.
TEST(FastAttentionStretches, TheirLengthFollowsFromTheRowsPositionAlone) {
  const Model model{.heads = 8, .kv_heads = 1, .first = 64, .value = 64, .dtype = DType::BF16};
  Random random(7);
  Scene scene(random, model, {16500});
  const auto rows = chunk(0, 16300, 16499);
  const auto expected = scene.run(rows, false);

  int others = strangers(scene, rows, expected, rows, true);
  for (const std::int64_t first : {16372, 16382, 16383, 16384}) {
    others += strangers(scene, rows, expected, chunk(0, first, first + 9), true);
    others += strangers(scene, rows, expected, {{0, first}}, true);
  }
  EXPECT_EQ(others, 0);
  const std::vector<Row> some = {{0, 16383}, {0, 16384}};
  EXPECT_LE(testing::largest_difference(scene.run(some, true), scene.reference(some)), 0.02F);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
