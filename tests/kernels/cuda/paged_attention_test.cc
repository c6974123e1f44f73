#include "kernels/cuda/paged_attention.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

// Latent attention where kv_heads is 0.
struct Model {
  std::int64_t heads = 1;
  std::int64_t kv_heads = 0;
  std::int64_t first = 0;  // elements of a query's first part, or of the latent
  std::int64_t second = 0;
  std::int64_t value = 0;
  std::int64_t window = 0;
  bool sinks = false;
  DType dtype = DType::F32;

  [[nodiscard]] AttentionPages pages() const {
    AttentionPages pages = kv_heads == 0 ? latent_pages(first, second)
                                         : grouped_pages(kv_heads, first + second, value);
    pages.dtype = dtype;
    return pages;
  }
};

struct Row {
  std::size_t sequence = 0;
  std::int64_t position = 0;
};

// Sequences in one cache with scattered pages, on the host and on the GPU.
class Scene {
 public:
  Scene(Random& random, const Model& model, const std::vector<std::int64_t>& lengths)
      : model_(model) {
    std::size_t pages = 0;
    for (const std::int64_t length : lengths) {
      begins_.push_back(static_cast<std::int32_t>(pages));
      pages += static_cast<std::size_t>((length + 63) / 64);
    }
    table_.resize(pages);
    std::iota(table_.rbegin(), table_.rend(), 0U);
    const auto line = static_cast<std::size_t>(model.pages().line);
    page_stride_ = (line * 64 * device::size_of(model.dtype) + 63) / 64 * 64;
    const Compute compute = model.dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
    host_.assign(page_stride_ * pages, std::byte{0xFF});
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      for (std::int64_t t = 0; t < lengths[s]; ++t) {
        const auto values = testing::random_floats(random, line, compute);
        for (std::size_t i = 0; i < line; ++i) {
          put(s, t, i, values[i]);
        }
      }
    }
    memory_.emplace(std::span<const std::byte>(host_));
    device_table_.emplace(table_);
    query_stride_ = model.heads * (model.first + model.second);
    sinks_ =
        testing::random_floats(random, static_cast<std::size_t>(model.heads), Compute::Float32);
    device_sinks_.emplace(sinks_);
  }

  // Outputs of the rows, whose queries follow from sequence and position.
  std::vector<float> run(const std::vector<Row>& rows, bool spread) {
    const std::vector<float> query = queries(rows);
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> tables;
    for (const Row& row : rows) {
      positions.push_back(static_cast<std::int32_t>(row.position));
      tables.push_back(begins_[row.sequence]);
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t width = model_.pages().values.width;
    const DeviceActivations in(query, query_stride_, model_.dtype);
    const DeviceArray<std::int32_t> places(positions);
    const DeviceArray<std::int32_t> table_of(tables);
    const DeviceActivations out(
        testing::poison(static_cast<std::size_t>(count * model_.heads * width)),
        model_.heads * width,
        model_.dtype
    );
    const DeviceArray<float> scratch(testing::poison(
        spread ? attention_scratch_floats(count, model_.heads, width, kSplitsMax) : 1
    ));
    AttentionPages pages = model_.pages();
    pages.base = memory_->data();
    pages.page_stride = page_stride_;
    paged_attention(
        stream_,
        {.query =
             {{{.rows = in.rows(),
                .head_stride = model_.first + model_.second,
                .width = model_.first},
               {.rows = in.rows().from(model_.first),
                .head_stride = model_.first + model_.second,
                .width = model_.second}}},
         .rows = count,
         .heads = model_.heads,
         .scale = 0.3F,
         .window = model_.window,
         .sinks = model_.sinks ? device_sinks_->data() : nullptr,
         .places =
             {.positions = places.data(),
              .table_of = table_of.data(),
              .tables = device_table_->data()},
         .pages = pages,
         .out = out.rows(),
         .scratch = scratch.data(),
         .scratch_rows = spread ? count : 0}
    );
    return out.values(stream_);
  }

  std::vector<float> reference(const std::vector<Row>& rows) {
    const std::vector<float> query = queries(rows);
    std::vector<AttentionRow> places;
    for (const Row& row : rows) {
      places.push_back({table_.data() + begins_[row.sequence], row.position});
    }
    AttentionPages pages = model_.pages();
    pages.base = host_.data();
    pages.page_stride = page_stride_;
    auto out =
        testing::poison(rows.size() * static_cast<std::size_t>(model_.heads * pages.values.width));
    const std::int64_t head = model_.first + model_.second;
    paged_attention_reference(
        {.query =
             {{{query.data(), query_stride_, head, model_.first},
               {query.data() + model_.first, query_stride_, head, model_.second}}},
         .rows = places,
         .heads = model_.heads,
         .scale = 0.3F,
         .window = model_.window,
         .sinks = model_.sinks ? sinks_.data() : nullptr,
         .pages = pages,
         .out = out.data()},
        Compute::Float32
    );
    return out;
  }

 private:
  void put(std::size_t sequence, std::int64_t token, std::size_t element, float value) {
    const std::size_t page =
        table_[static_cast<std::size_t>(begins_[sequence]) + static_cast<std::size_t>(token / 64)];
    const std::size_t index = static_cast<std::size_t>(token % 64 * model_.pages().line) + element;
    std::byte* base = host_.data() + page * page_stride_;
    if (model_.dtype == DType::F32) {
      std::memcpy(base + index * 4, &value, 4);
    } else {
      const device::BF16 bits = device::float_to_bf16(value);
      std::memcpy(base + index * 2, &bits, 2);
    }
  }

  std::vector<float> queries(const std::vector<Row>& rows) const {
    std::vector<float> query;
    const Compute compute = model_.dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
    for (const Row& row : rows) {
      Random random(row.sequence * 100000 + static_cast<std::uint64_t>(row.position));
      const auto one =
          testing::random_floats(random, static_cast<std::size_t>(query_stride_), compute);
      query.insert(query.end(), one.begin(), one.end());
    }
    return query;
  }

  Model model_;
  device::cuda::Stream stream_ = testing::test_stream();
  std::vector<std::int32_t> begins_;
  std::vector<std::uint32_t> table_;
  std::size_t page_stride_ = 0;
  std::int64_t query_stride_ = 0;
  std::vector<std::byte> host_;
  std::vector<float> sinks_;
  std::optional<DeviceArray<std::byte>> memory_;
  std::optional<DeviceArray<std::uint32_t>> device_table_;
  std::optional<DeviceArray<float>> device_sinks_;
};

const std::array kModels = {
    Model{.heads = 4, .kv_heads = 2, .first = 10, .second = 6, .value = 20},
    Model{.heads = 32, .kv_heads = 4, .first = 128, .value = 128, .dtype = DType::BF16},
    Model{.heads = 24, .kv_heads = 2, .first = 64, .value = 64, .window = 100, .sinks = true},
    Model{.heads = 8, .kv_heads = 8, .first = 64, .value = 64, .sinks = true, .dtype = DType::BF16},
    Model{.heads = 4, .first = 40, .second = 8},
    Model{.heads = 16, .first = 512, .second = 64, .dtype = DType::BF16},
    Model{.heads = 3, .first = 600, .second = 16},
};

TEST(CudaPagedAttention, MatchesTheReferenceOnEveryKindOfModel) {
  for (std::size_t m = 0; m < kModels.size(); ++m) {
    Random random(m);
    Scene scene(random, kModels.at(m), {1, 64, 200, 700});
    const std::vector<Row> rows = {{0, 0}, {1, 63}, {2, 0}, {2, 70}, {2, 199}, {3, 500}, {3, 699}};
    const auto expected = scene.reference(rows);
    const float tolerance = kModels.at(m).dtype == DType::F32 ? 2e-5F : 0.02F;
    for (const bool spread : {false, true}) {
      EXPECT_LE(testing::largest_difference(scene.run(rows, spread), expected), tolerance)
          << "model " << m << ", spread " << spread;
    }
  }
}

// DESIGN R2: whether a row's stretches are spread over blocks, and which rows are beside it, leaves
// no trace.
TEST(CudaPagedAttention, ARowHasTheSameBitsAloneAmongOthersSpreadOrNot) {
  for (std::size_t m = 0; m < kModels.size(); ++m) {
    Random random(m);
    Scene scene(random, kModels.at(m), {300, 5000});
    const std::vector<Row> rows = {{0, 299}, {1, 130}, {1, 131}, {1, 4200}, {1, 4999}};
    const auto together = scene.run(rows, false);
    EXPECT_TRUE(testing::same_bits(scene.run(rows, true), together)) << "model " << m;
    const std::size_t line = together.size() / rows.size();
    for (std::size_t r = 0; r < rows.size(); ++r) {
      for (const bool spread : {false, true}) {
        EXPECT_TRUE(testing::same_bits(
            scene.run({rows[r]}, spread), std::span(together).subspan(r * line, line)
        )) << "model "
           << m << ", row " << r;
      }
    }
  }
}

TEST(CudaPagedAttention, RowsWithoutAPositionAreZero) {
  Random random(9);
  Scene scene(random, kModels.front(), {64});
  for (const bool spread : {false, true}) {
    const auto out = scene.run({{0, -1}}, spread);
    EXPECT_TRUE(std::ranges::all_of(out, [](float value) { return value == 0.0F; }));
  }
}

TEST(CudaStoreLines, PartsGoToTheRowsLinesAndNowhereElse) {
  Random random(10);
  auto stream = testing::test_stream();
  constexpr std::int64_t kFirst = 10;
  constexpr std::int64_t kSecond = 6;
  constexpr std::int64_t kLine = kFirst + kSecond;
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const auto x = testing::random_floats(random, 3 * kLine, Compute::BFloat16);
    const DeviceActivations rows(x, kLine, dtype);
    const std::size_t page = 64 * kLine * device::size_of(dtype);
    const DeviceActivations cache(std::vector<float>(3 * 64 * kLine, 0.5F), kLine, dtype);
    const DeviceArray<std::int32_t> positions(std::vector<std::int32_t>{65, -1, 3});
    const DeviceArray<std::int32_t> table_of(std::vector<std::int32_t>{0, 0, 2});
    const DeviceArray<std::uint32_t> tables(std::vector<std::uint32_t>{1, 2, 0});
    AttentionPages pages = latent_pages(kFirst, kSecond);
    pages.base = static_cast<std::byte*>(cache.rows().data);
    pages.page_stride = page;
    pages.dtype = dtype;

    store_lines(
        stream,
        {.parts = {rows.rows(), rows.rows().from(kFirst)},
         .widths = {kFirst, kSecond},
         .rows = 3,
         .places =
             {.positions = positions.data(), .table_of = table_of.data(), .tables = tables.data()},
         .pages = pages}
    );

    std::vector<float> expected(3 * 64 * kLine, 0.5F);
    std::copy_n(x.begin(), kLine, expected.begin() + (2 * 64 + 1) * kLine);
    std::copy_n(x.begin() + 2 * kLine, kLine, expected.begin() + 3 * kLine);
    EXPECT_TRUE(testing::same_bits(cache.values(stream), expected));
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
