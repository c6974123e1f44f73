#include "kernels/cuda/cache_rows.h"

#include <numeric>

#include <gtest/gtest.h>

#include "kernels/rope.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

constexpr std::int64_t kRows = 5;
constexpr std::int64_t kPositions = 200;

constexpr std::array<std::int64_t, kRows> kPositionOf = {0, 63, -1, 64, 199};

// Norms add in another order than the ops alone; turning has the same bits.
float tolerance(DType dtype, bool norms) {
  if (!norms) return 0.0F;
  return dtype == DType::F32 ? 2e-5F : 0.04F;
}

// Heads that kernels::apply_rope turns, in rows `stride` apart from element `first` on.
struct Turned {
  std::int64_t stride = 0;
  std::int64_t first = 0;
  std::int64_t heads = 1;
  std::int64_t head_stride = 0;
  std::int64_t width = 0;
  RopePairs pairs = RopePairs::Interleaved;
};

// Turns the rows that have a position, by their lines of `angles`.
void turn(
    std::vector<float>& rows,
    const Turned& turned,
    std::span<const float> angles,
    DType dtype
) {
  device::ThreadPool pool(1);
  const Compute compute = dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
  for (std::size_t r = 0; r < kRows; ++r) {
    if (kPositionOf[r] < 0) continue;
    kernels::apply_rope(
        {&pool, device::CpuIsa::Portable, compute},
        {.x = rows.data() + static_cast<std::int64_t>(r) * turned.stride + turned.first,
         .row_stride = turned.stride,
         .head_stride = turned.head_stride,
         .rows = 1,
         .heads = turned.heads,
         .width = turned.width,
         .cos_sin = angles.data() + kPositionOf[r] * turned.width,
         .pairs = turned.pairs}
    );
  }
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
  const auto floats = [&](std::int64_t count) {
    return testing::random_floats(random, static_cast<std::size_t>(count), Compute::Float32);
  };
  const DeviceArray<float> q_norm(floats(c.width));
  const DeviceArray<float> k_norm(floats(c.width));
  const auto table = floats(kPositions * c.turned);
  const DeviceArray<float> angles(table);
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
  const auto made = rows.values(stream);
  const auto lines = cache.lines.values(stream);
  auto wanted = expected.values(stream);
  turn(
      wanted,
      {.stride = stride,
       .heads = c.heads + c.kv_heads,
       .head_stride = c.width,
       .width = c.turned,
       .pairs = c.pairs},
      table,
      dtype
  );
  const std::int64_t queries = c.heads * c.width;
  for (const std::int64_t r : {0, 1, 3, 4}) {
    EXPECT_LE(
        testing::largest_difference(
            part(made, r, stride, 0, queries), part(wanted, r, stride, 0, queries)
        ),
        tolerance(dtype, c.norms)
    );
    EXPECT_LE(
        testing::largest_difference(
            part(lines, Places::line(r), cache.pages.line, 0, cache.pages.line),
            part(wanted, r, stride, queries, cache.pages.line)
        ),
        tolerance(dtype, c.norms)
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
      const auto table = testing::random_floats(random, kPositions * kTurned, Compute::Float32);
      const DeviceArray<float> angles(table);
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
      auto wanted = expected.values(stream);
      turn(wanted, {.stride = stride, .first = kBefore + width, .width = kTurned}, table, dtype);
      const auto lines = cache.lines.values(stream);
      for (const std::int64_t r : {0, 1, 3, 4}) {
        EXPECT_LE(
            testing::largest_difference(
                part(lines, Places::line(r), cache.pages.line, 0, cache.pages.line),
                part(wanted, r, stride, kBefore, cache.pages.line)
            ),
            tolerance(dtype, true)
        );
      }
      EXPECT_TRUE(untouched(part(lines, 5, cache.pages.line, 0, cache.pages.line)));
      EXPECT_TRUE(testing::same_bits(rows.values(stream), x));
    }
  }
}

TEST(CudaCacheLatentRows, TurnsQueriesInPlaceWithTheCpusBits) {
  auto stream = testing::test_stream();
  Random random(3);
  for (const DType dtype : {DType::F32, DType::BF16}) {
    for (const std::int64_t heads : {5, 37}) {
      for (const RopePairs pairs : {RopePairs::Interleaved, RopePairs::Halves}) {
        constexpr std::int64_t kLatent = 12;
        constexpr std::int64_t kFree = 8;  // elements of a head that do not turn, in front
        constexpr std::int64_t kTurned = 16;
        constexpr std::int64_t kHead = kFree + kTurned;
        const std::int64_t stride = heads * kHead;
        const Compute compute = dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
        const auto random_of = [&](std::int64_t count, Compute kind) {
          return testing::random_floats(random, static_cast<std::size_t>(count), kind);
        };
        auto x = random_of(kRows * stride, compute);
        const DeviceActivations queries(x, stride, dtype);
        const DeviceActivations latents(
            random_of(kRows * (kLatent + kTurned), compute), kLatent + kTurned, dtype
        );
        const DeviceArray<float> norm(random_of(kLatent, Compute::Float32));
        const auto table = random_of(kPositions * kTurned, Compute::Float32);
        const DeviceArray<float> angles(table);
        const Places places;
        const Cache cache(latent_pages(kLatent, kTurned), dtype);

        cache_latent_rows(
            stream,
            {.latent = latents.rows(),
             .queries = queries.rows().from(kFree),
             .heads = heads,
             .head_stride = kHead,
             .rows = kRows,
             .width = kLatent,
             .norm = norm.data(),
             .rotation = {.cos_sin = angles.data(), .width = kTurned, .pairs = pairs},
             .places = places.places(),
             .pages = cache.pages}
        );

        turn(
            x,
            {.stride = stride,
             .first = kFree,
             .heads = heads,
             .head_stride = kHead,
             .width = kTurned,
             .pairs = pairs},
            table,
            dtype
        );
        EXPECT_TRUE(testing::same_bits(queries.values(stream), x));
      }
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
