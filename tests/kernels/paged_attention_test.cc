#include "kernels/paged_attention.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using device::DType;
using testing::poison;
using testing::same_bits;

// Latent attention where `kv_heads` is 0.
struct Model {
  std::int64_t heads = 1;
  std::int64_t kv_heads = 0;
  std::int64_t first = 0;   // elements of a query's first part, or of the latent
  std::int64_t second = 0;  // of its second part
  std::int64_t value = 0;   // elements of a value; the latent's where it is latent attention
  std::int64_t window = 0;
  bool sinks = false;
  DType dtype = DType::F32;

  [[nodiscard]] AttentionPages pages() const {
    AttentionPages pages = kv_heads == 0 ? latent_pages(first, second)
                                         : grouped_pages(kv_heads, first + second, value);
    pages.dtype = dtype;
    return pages;
  }
  [[nodiscard]] std::int64_t out() const { return heads * pages().values.width; }
};

Model latent_model(std::int64_t heads, std::int64_t latent, std::int64_t rope, DType dtype) {
  return {.heads = heads, .first = latent, .second = rope, .dtype = dtype};
}

// Sequences over one cache, their pages scattered, and everything an attention call needs.
class Scene {
 public:
  Scene(Random& random, Model model, const std::vector<std::int64_t>& lengths) : model_(model) {
    std::size_t pages = 0;
    for (const std::int64_t length : lengths) {
      tables_.emplace_back(static_cast<std::size_t>((length + 63) / 64));
      pages += tables_.back().size();
    }
    std::vector<std::uint32_t> order(pages);
    std::iota(order.begin(), order.end(), 0U);
    for (std::size_t i = pages; i > 1; --i) {
      std::swap(order[i - 1], order[random.below(i)]);
    }
    for (auto& table : tables_) {
      for (auto& page : table) {
        page = order.back();
        order.pop_back();
      }
    }
    const std::size_t line = width() * device::size_of(model.dtype);
    page_stride_ = (line * 64 + 63) / 64 * 64;
    memory_ = device::Buffer::allocate(page_stride_ * pages).value();
    // Lines that nobody stored look like NaN.
    std::fill_n(memory_.data(), memory_.size(), std::byte{0xFF});
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      store(random, s, lengths[s]);
    }
  }

  [[nodiscard]] AttentionPages pages() {
    AttentionPages pages = model_.pages();
    pages.base = memory_.data();
    pages.page_stride = page_stride_;
    return pages;
  }
  [[nodiscard]] AttentionRow row(std::size_t sequence, std::int64_t position) const {
    return {tables_[sequence].data(), position};
  }
  [[nodiscard]] const Model& model() const { return model_; }

  // Fills lines [begin, end) of a sequence with NaN.
  void forget(std::size_t sequence, std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      std::fill_n(line_at(sequence, t), width() * device::size_of(model_.dtype), std::byte{0xFF});
    }
  }

 private:
  [[nodiscard]] std::size_t width() const { return static_cast<std::size_t>(model_.pages().line); }
  std::byte* line_at(std::size_t sequence, std::int64_t token) {
    const std::uint32_t page = tables_[sequence][static_cast<std::size_t>(token / 64)];
    return memory_.data() + page * page_stride_ +
           static_cast<std::size_t>(token % 64) * width() * device::size_of(model_.dtype);
  }
  void store(Random& random, std::size_t sequence, std::int64_t length) {
    const auto count = static_cast<std::size_t>(length);
    const auto values = testing::random_floats(random, count * width(), Compute::Float32);
    std::vector<AttentionRow> rows;
    for (std::int64_t t = 0; t < length; ++t) {
      rows.push_back(row(sequence, t));
    }
    device::ThreadPool pool(1);
    const auto line = static_cast<std::int64_t>(width());
    store_lines(
        {&pool, device::detect_cpu_isa(), Compute::Float32},
        {.parts =
             {{{.x = values.data(), .stride = line, .width = model_.first},
               {.x = values.data() + model_.first, .stride = line, .width = line - model_.first}}},
         .rows = rows,
         .pages = pages()}
    );
  }

  Model model_;
  std::vector<std::vector<std::uint32_t>> tables_;
  std::size_t page_stride_ = 0;
  device::Buffer memory_;
};

// Queries for rows; the second part lies in rows and heads wider than itself.
struct Queries {
  Queries(Random& random, const Model& model, std::vector<AttentionRow> given)
      : rows(std::move(given)) {
    const auto numbers = [&](std::size_t count) {
      return testing::random_floats(random, count, Compute::BFloat16);
    };
    first = numbers(rows.size() * static_cast<std::size_t>(model.heads * model.first));
    head_stride = model.second + 5;
    row_stride = head_stride * model.heads + 3;
    second = numbers(rows.size() * static_cast<std::size_t>(row_stride));
    sinks = numbers(static_cast<std::size_t>(model.heads));
  }

  std::vector<AttentionRow> rows;
  std::vector<float> first;
  std::vector<float> second;
  std::vector<float> sinks;
  std::int64_t head_stride;
  std::int64_t row_stride;
};

AttentionTask task_of(Scene& scene, const Queries& queries, std::size_t first, std::size_t count) {
  const Model& model = scene.model();
  const auto begin = static_cast<std::int64_t>(first);
  const std::int64_t dense = model.heads * model.first;
  return {
      .query =
          {{{.x = queries.first.data() + begin * dense,
             .row_stride = dense,
             .head_stride = model.first,
             .width = model.first},
            {.x = queries.second.data() + begin * queries.row_stride,
             .row_stride = queries.row_stride,
             .head_stride = queries.head_stride,
             .width = model.second}}},
      .rows = std::span(queries.rows).subspan(first, count),
      .heads = model.heads,
      .scale = 0.11F,
      .window = model.window,
      .sinks = model.sinks ? queries.sinks.data() : nullptr,
      .pages = scene.pages(),
      .scratch = {},
  };
}

std::vector<float> run(
    const Context& context,
    Scene& scene,
    const Queries& queries,
    std::size_t first,
    std::size_t count
) {
  const Model& model = scene.model();
  AttentionTask task = task_of(scene, queries, first, count);
  std::int64_t longest = 0;
  for (const AttentionRow& row : task.rows) {
    longest = std::max(longest, row.position + 1);
  }
  // Exactly what is asked for, and poisoned.
  auto scratch = poison(paged_attention_scratch(
      context.pool->workers(), static_cast<std::int64_t>(count), model.heads, model.pages(), longest
  ));
  auto out = poison(count * static_cast<std::size_t>(model.out()));
  task.scratch = scratch;
  task.out = out.data();
  paged_attention(context, task);
  return out;
}

std::vector<float> reference(Scene& scene, const Queries& queries, Compute compute) {
  AttentionTask task = task_of(scene, queries, 0, queries.rows.size());
  auto out = poison(queries.rows.size() * static_cast<std::size_t>(scene.model().out()));
  task.out = out.data();
  paged_attention_reference(task, compute);
  return out;
}

class PagedAttentionOf : public ::testing::TestWithParam<Model> {};

TEST_P(PagedAttentionOf, MatchesTheReferenceAndItselfOnEveryIsa) {
  Random random(1);
  Scene scene(random, GetParam(), {1, 64, 65, 200, 1300, 5});
  std::vector<AttentionRow> rows = {scene.row(0, 0), scene.row(1, 63), scene.row(2, 64)};
  for (std::int64_t t = 50; t < 75; ++t) {
    rows.push_back(scene.row(3, t));
  }
  for (std::int64_t t = 1015; t < 1030; ++t) {
    rows.push_back(scene.row(4, t));
  }
  rows.push_back(scene.row(4, 1299));
  for (std::int64_t t = 0; t < 5; ++t) {
    rows.push_back(scene.row(5, t));
  }
  const Queries queries(random, GetParam(), rows);
  const Compute compute = GetParam().dtype == DType::BF16 ? Compute::BFloat16 : Compute::Float32;

  const auto expected = reference(scene, queries, compute);

  std::vector<float> first;
  for (const device::CpuIsa isa : testing::runnable_isas()) {
    device::ThreadPool pool(2);
    const auto out = run({&pool, isa, compute}, scene, queries, 0, rows.size());
    const float tolerance = compute == Compute::BFloat16 ? 0.02F : 2e-5F;
    EXPECT_LE(testing::largest_difference(out, expected), tolerance) << device::to_string(isa);
    if (first.empty()) first = out;
    EXPECT_TRUE(same_bits(out, first)) << device::to_string(isa);
  }
}

TEST_P(PagedAttentionOf, GivesARowTheSameBitsAloneInAChunkAndOnAnyTeam) {
  Random random(2);
  Scene scene(random, GetParam(), {4200, 130});
  std::vector<AttentionRow> rows;
  for (std::int64_t t = 1000; t < 1090; ++t) {
    rows.push_back(scene.row(0, t));
  }
  for (const std::int64_t t : {2047, 2048, 3071, 4199}) {
    rows.push_back(scene.row(0, t));
  }
  for (std::int64_t t = 100; t < 130; ++t) {
    rows.push_back(scene.row(1, t));
  }
  const Queries queries(random, GetParam(), rows);
  const auto row_floats = static_cast<std::size_t>(GetParam().out());
  const device::CpuIsa isa = device::detect_cpu_isa();
  device::ThreadPool alone(1);
  const auto whole = run({&alone, isa, Compute::Float32}, scene, queries, 0, rows.size());

  for (int workers = 1; workers <= 4; ++workers) {
    device::ThreadPool pool(workers);
    const Context context = {&pool, isa, Compute::Float32};
    EXPECT_TRUE(same_bits(run(context, scene, queries, 0, rows.size()), whole)) << workers;
    for (const std::size_t count :
         {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{40}}) {
      for (std::size_t first = 0; first + count <= rows.size(); first += 11) {
        const auto out = run(context, scene, queries, first, count);
        const auto expected = std::span(whole).subspan(first * row_floats, count * row_floats);
        ASSERT_TRUE(same_bits(out, expected)) << workers << ' ' << first << ' ' << count;
      }
    }
  }
}

TEST_P(PagedAttentionOf, SeesNothingPastItsPosition) {
  Random random(3);
  Scene scene(random, GetParam(), {300});
  const Queries queries(random, GetParam(), {scene.row(0, 130), scene.row(0, 133)});
  device::ThreadPool pool(2);
  const Context context = {&pool, device::detect_cpu_isa(), Compute::Float32};
  const auto with_later_tokens = run(context, scene, queries, 0, 2);

  scene.forget(0, 134, 320);

  EXPECT_TRUE(same_bits(run(context, scene, queries, 0, 2), with_later_tokens));
}

TEST(PagedAttention, SeesNothingBeforeItsWindow) {
  Random random(7);
  Scene scene(random, {.heads = 4, .kv_heads = 2, .first = 24, .value = 24, .window = 70}, {3000});
  const Queries queries(random, scene.model(), {scene.row(0, 2130), scene.row(0, 2133)});
  device::ThreadPool pool(2);
  const Context context = {&pool, device::detect_cpu_isa(), Compute::Float32};
  const auto with_earlier_tokens = run(context, scene, queries, 0, 2);

  scene.forget(0, 0, 2061);

  EXPECT_TRUE(same_bits(run(context, scene, queries, 0, 2), with_earlier_tokens));
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    PagedAttentionOf,
    ::testing::Values(
        latent_model(8, 64, 16, DType::F32),
        latent_model(8, 64, 16, DType::BF16),
        latent_model(3, 37, 6, DType::F32),
        latent_model(3, 37, 6, DType::BF16),
        latent_model(70, 32, 0, DType::F32),
        latent_model(1, 16, 2, DType::BF16),
        Model{.heads = 8, .kv_heads = 2, .first = 24, .value = 24},
        Model{.heads = 8, .kv_heads = 8, .first = 16, .value = 20, .dtype = DType::BF16},
        Model{.heads = 6, .kv_heads = 3, .first = 33, .second = 4, .value = 7},
        Model{.heads = 140, .kv_heads = 2, .first = 16, .value = 16},
        Model{.heads = 4, .kv_heads = 2, .first = 24, .value = 24, .window = 16, .sinks = true},
        Model{.heads = 4, .kv_heads = 1, .first = 20, .value = 9, .window = 1},
        Model{
            .heads = 8,
            .kv_heads = 4,
            .first = 16,
            .value = 16,
            .window = 128,
            .sinks = true,
            .dtype = DType::BF16},
        Model{.heads = 2, .kv_heads = 2, .first = 8, .value = 8, .window = 1500},
        Model{.heads = 2, .kv_heads = 1, .first = 16, .value = 16, .sinks = true}
    )
);

TEST(PagedAttention, HoldsUpAgainstScoresFarApart) {
  Random random(4);
  Scene scene(random, latent_model(2, 16, 4, DType::F32), {200});
  Queries queries(random, scene.model(), {scene.row(0, 199)});
  for (float& q : queries.first) {
    q *= 300;
  }
  device::ThreadPool pool(1);

  const auto out = run({&pool, device::detect_cpu_isa(), Compute::Float32}, scene, queries, 0, 1);

  EXPECT_LE(testing::largest_difference(out, reference(scene, queries, Compute::Float32)), 1e-3F);
}

TEST(PagedAttention, DoesNothingWithoutRows) {
  Random random(5);
  Scene scene(random, latent_model(2, 16, 4, DType::F32), {1});
  const Queries queries(random, scene.model(), {});
  device::ThreadPool pool(1);

  AttentionTask task = task_of(scene, queries, 0, 0);
  paged_attention({&pool, device::detect_cpu_isa(), Compute::Float32}, task);
}

TEST(PagedAttentionScratch, GrowsWithEveryArgument) {
  const std::size_t base = paged_attention_scratch(2, 10, 8, latent_pages(64, 16), 4000);

  EXPECT_GE(paged_attention_scratch(3, 10, 8, latent_pages(64, 16), 4000), base);
  EXPECT_GE(paged_attention_scratch(2, 11, 8, latent_pages(64, 16), 4000), base);
  EXPECT_GE(paged_attention_scratch(2, 10, 8, latent_pages(65, 16), 4000), base);
  EXPECT_GE(paged_attention_scratch(2, 10, 8, latent_pages(64, 17), 4000), base);
  EXPECT_GE(paged_attention_scratch(2, 10, 8, latent_pages(64, 16), 9000), base);
}

TEST(PagedAttentionScratch, StaysSmallForLongContexts) {
  const std::size_t floats = paged_attention_scratch(16, 8192, 128, latent_pages(512, 64), 131'072);

  EXPECT_LT(floats * sizeof(float), std::size_t{64} << 20U);
}

TEST(PagedAttentionDeathTest, EndsOnScratchThatIsTooSmall) {
  Random random(6);
  Scene scene(random, latent_model(2, 16, 4, DType::F32), {1});
  const Queries queries(random, scene.model(), {scene.row(0, 0)});
  device::ThreadPool pool(1);
  AttentionTask task = task_of(scene, queries, 0, 1);

  EXPECT_DEATH(
      paged_attention({&pool, device::CpuIsa::Portable, Compute::Float32}, task), "scratch"
  );
}

}  // namespace
}  // namespace pleiad::kernels
