#include "kernels/cuda/cache_rows.h"

#include <numeric>

#include <gtest/gtest.h>

#include "kernels/cuda/rope.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

constexpr std::int64_t kRows = 5;
constexpr std::int64_t kPositions = 200;

float tolerance(DType dtype) {
  return dtype == DType::F32 ? 2e-5F : 0.04F;
}

// Rows of one sequence whose pages lie backwards, the third of them left out.
struct Places {
  DeviceArray<std::int32_t> positions{std::vector<std::int32_t>{0, 63, -1, 64, 199}};
  DeviceArray<std::int32_t> table_of{std::vector<std::int32_t>{1, 1, 1, 1, 1}};
  DeviceArray<std::uint32_t> tables{std::vector<std::uint32_t>{9, 3, 2, 1, 0}};

  [[nodiscard]] RowPlaces places() const {
    return {
        .positions = positions.data(),
        .table_of = table_of.data(),
        .tables = tables.data(),
    };
  }
  // The line of a row's token, among all lines of the cache.
  [[nodiscard]] static std::int64_t line(std::int64_t row) {
    constexpr std::array<std::int64_t, kRows> kPositionOf = {0, 63, -1, 64, 199};
    const std::int64_t position = kPositionOf[static_cast<std::size_t>(row)];
    return (3 - position / 64) * 64 + position % 64;
  }
};

// A cache of four poisoned pages.
struct Cache {
  Cache(AttentionPages described, DType dtype)
      : pages(described),
        lines(
            testing::poison(static_cast<std::size_t>(4 * 64 * described.line)),
            described.line,
            dtype
        ) {
    pages.dtype = dtype;
    pages.page_stride = static_cast<std::size_t>(64 * pages.line) * device::size_of(dtype);
    pages.base = static_cast<std::byte*>(lines.rows().data);
  }

  AttentionPages pages;
  DeviceActivations lines;
};

std::vector<float> part(
    const std::vector<float>& values,
    std::int64_t row,
    std::int64_t stride,
    std::int64_t first,
    std::int64_t count
) {
  const auto begin = values.begin() + row * stride + first;
  return {begin, begin + count};
}

bool untouched(const std::vector<float>& line) {
  return testing::same_bits(line, testing::poison(line.size()));
}

struct GroupedCase {
  std::int64_t heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t width = 0;
  std::int64_t turned = 0;
  bool norms = false;
  RopePairs pairs = RopePairs::Halves;
};

void expect_the_ops_one_by_one(const GroupedCase& c, DType dtype) {
  auto stream = testing::test_stream();
  Random random(1);
  const Compute compute = dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
  const std::int64_t stride = (c.heads + 2 * c.kv_heads) * c.width;
  const auto x = testing::random_floats(random, static_cast<std::size_t>(kRows * stride), compute);
  const auto random_array = [&](std::int64_t count) {
    return DeviceArray<float>(
        testing::random_floats(random, static_cast<std::size_t>(count), Compute::Float32)
    );
  };
  const auto q_norm = random_array(c.width);
  const auto k_norm = random_array(c.width);
  const auto angles = random_array(kPositions * std::max<std::int64_t>(c.turned, 1));
  const Places places;
  const Cache cache(grouped_pages(c.kv_heads, c.width, c.width), dtype);
  const DeviceActivations rows(x, stride, dtype);
  const DeviceActivations expected(x, stride, dtype);

  cache_grouped_rows(
      stream,
      {.qkv = rows.rows(),
       .rows = kRows,
       .heads = c.heads,
       .kv_heads = c.kv_heads,
       .width = c.width,
       .q_norm = c.norms ? q_norm.data() : nullptr,
       .k_norm = c.norms ? k_norm.data() : nullptr,
       .rotation = {.cos_sin = angles.data(), .width = c.turned, .pairs = c.pairs},
       .places = places.places(),
       .pages = cache.pages}
  );

  const auto norm = [&](std::int64_t first, std::int64_t heads, const float* weight) {
    rms_norm(
        stream,
        {.x = expected.rows().from(first),
         .rows = kRows,
         .heads = heads,
         .width = c.width,
         .weight = weight,
         .y = expected.rows().from(first)}
    );
  };
  if (c.norms) {
    norm(0, c.heads, q_norm.data());
    norm(c.heads * c.width, c.kv_heads, k_norm.data());
  }
  apply_rope(
      stream,
      {.x = expected.rows(),
       .head_stride = c.width,
       .rows = kRows,
       .heads = c.heads + c.kv_heads,
       .width = c.turned,
       .cos_sin = angles.data(),
       .positions = places.positions.data(),
       .pairs = c.pairs}
  );
  const auto made = rows.values(stream);
  const auto lines = cache.lines.values(stream);
  const auto wanted = expected.values(stream);
  const std::int64_t queries = c.heads * c.width;
  for (const std::int64_t r : {0, 1, 3, 4}) {
    EXPECT_LE(
        testing::largest_difference(
            part(made, r, stride, 0, queries), part(wanted, r, stride, 0, queries)
        ),
        tolerance(dtype)
    );
    EXPECT_LE(
        testing::largest_difference(
            part(lines, Places::line(r), cache.pages.line, 0, cache.pages.line),
            part(wanted, r, stride, queries, cache.pages.line)
        ),
        tolerance(dtype)
    );
  }
  EXPECT_TRUE(testing::same_bits(part(made, 2, stride, 0, stride), part(x, 2, stride, 0, stride)));
  EXPECT_TRUE(untouched(part(lines, 5, cache.pages.line, 0, cache.pages.line)));
}

TEST(CudaCacheGroupedRows, DoesWhatTheOpsDoOneByOne) {
  for (const DType dtype : {DType::F32, DType::BF16}) {
    for (const bool norms : {false, true}) {
      for (const RopePairs pairs : {RopePairs::Halves, RopePairs::Interleaved}) {
        expect_the_ops_one_by_one(
            {.width = 128, .turned = 128, .norms = norms, .pairs = pairs}, dtype
        );
        expect_the_ops_one_by_one(
            {.width = 64, .turned = 32, .norms = norms, .pairs = pairs}, dtype
        );
        expect_the_ops_one_by_one(
            {.heads = 3, .kv_heads = 1, .width = 10, .turned = 6, .norms = norms, .pairs = pairs},
            dtype
        );
        expect_the_ops_one_by_one(
            {.heads = 9,
             .kv_heads = 9,
             .width = 256,
             .turned = 256,
             .norms = norms,
             .pairs = pairs},
            dtype
        );
      }
    }
  }
}

TEST(CudaCacheLatentRows, DoesWhatTheOpsDoOneByOne) {
  auto stream = testing::test_stream();
  Random random(2);
  for (const DType dtype : {DType::F32, DType::BF16}) {
    for (const std::int64_t width : {12, 512}) {
      constexpr std::int64_t kTurned = 64;
      constexpr std::int64_t kBefore = 20;  // elements of a row in front of the latent
      const Compute compute = dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
      const std::int64_t stride = kBefore + width + kTurned;
      const auto x =
          testing::random_floats(random, static_cast<std::size_t>(kRows * stride), compute);
      const DeviceArray<float> norm(
          testing::random_floats(random, static_cast<std::size_t>(width), Compute::Float32)
      );
      const DeviceArray<float> angles(
          testing::random_floats(random, kPositions * kTurned, Compute::Float32)
      );
      const Places places;
      const Cache cache(latent_pages(width, kTurned), dtype);
      const DeviceActivations rows(x, stride, dtype);
      const DeviceActivations expected(x, stride, dtype);

      cache_latent_rows(
          stream,
          {.latent = rows.rows().from(kBefore),
           .rows = kRows,
           .width = width,
           .norm = norm.data(),
           .rotation =
               {.cos_sin = angles.data(), .width = kTurned, .pairs = RopePairs::Interleaved},
           .places = places.places(),
           .pages = cache.pages}
      );

      rms_norm(
          stream,
          {.x = expected.rows().from(kBefore),
           .rows = kRows,
           .width = width,
           .weight = norm.data(),
           .y = expected.rows().from(kBefore)}
      );
      apply_rope(
          stream,
          {.x = expected.rows().from(kBefore + width),
           .head_stride = kTurned,
           .rows = kRows,
           .heads = 1,
           .width = kTurned,
           .cos_sin = angles.data(),
           .positions = places.positions.data(),
           .pairs = RopePairs::Interleaved}
      );
      const auto wanted = expected.values(stream);
      const auto lines = cache.lines.values(stream);
      for (const std::int64_t r : {0, 1, 3, 4}) {
        EXPECT_LE(
            testing::largest_difference(
                part(lines, Places::line(r), cache.pages.line, 0, cache.pages.line),
                part(wanted, r, stride, kBefore, cache.pages.line)
            ),
            tolerance(dtype)
        );
      }
      EXPECT_TRUE(untouched(part(lines, 5, cache.pages.line, 0, cache.pages.line)));
      EXPECT_TRUE(testing::same_bits(rows.values(stream), x));
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
