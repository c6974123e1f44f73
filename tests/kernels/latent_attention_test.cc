#include "kernels/latent_attention.h"

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

struct Model {
  std::int64_t heads;
  std::int64_t latent;
  std::int64_t rope;
  DType dtype;
};

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

  [[nodiscard]] LatentPages pages() {
    return {memory_.data(), page_stride_, model_.dtype, model_.latent, model_.rope};
  }
  [[nodiscard]] AttentionRow row(std::size_t sequence, std::int64_t position) const {
    return {tables_[sequence].data(), position};
  }
  [[nodiscard]] const Model& model() const { return model_; }

  // Fills every line past `position` of a sequence with NaN.
  void forget_after(std::size_t sequence, std::int64_t position) {
    const auto end = static_cast<std::int64_t>(tables_[sequence].size()) * 64;
    for (std::int64_t t = position + 1; t < end; ++t) {
      std::fill_n(line_at(sequence, t), width() * device::size_of(model_.dtype), std::byte{0xFF});
    }
  }

 private:
  [[nodiscard]] std::size_t width() const {
    return static_cast<std::size_t>(model_.latent + model_.rope);
  }
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
    store_latent(
        {&pool, device::detect_cpu_isa(), Compute::Float32},
        {.latent = values.data(),
         .latent_stride = model_.latent + model_.rope,
         .rope = values.data() + model_.latent,
         .rope_stride = model_.latent + model_.rope,
         .rows = rows,
         .pages = pages()}
    );
  }

  Model model_;
  std::vector<std::vector<std::uint32_t>> tables_;
  std::size_t page_stride_ = 0;
  device::Buffer memory_;
};

// Queries for rows; the rope part lies in rows and heads wider than itself.
struct Queries {
  Queries(Random& random, const Model& model, std::vector<AttentionRow> given)
      : rows(std::move(given)) {
    const std::size_t pairs = rows.size() * static_cast<std::size_t>(model.heads);
    q_latent = testing::random_floats(
        random, pairs * static_cast<std::size_t>(model.latent), Compute::BFloat16
    );
    head_stride = model.rope + 5;
    row_stride = head_stride * model.heads + 3;
    q_rope = testing::random_floats(
        random, rows.size() * static_cast<std::size_t>(row_stride), Compute::BFloat16
    );
  }

  std::vector<AttentionRow> rows;
  std::vector<float> q_latent;
  std::vector<float> q_rope;
  std::int64_t head_stride;
  std::int64_t row_stride;
};

LatentAttentionTask
task_of(Scene& scene, const Queries& queries, std::size_t first, std::size_t count) {
  const Model& model = scene.model();
  const auto begin = static_cast<std::int64_t>(first);
  return {
      .q_latent = queries.q_latent.data() + begin * model.heads * model.latent,
      .q_rope = queries.q_rope.data() + begin * queries.row_stride,
      .q_rope_row_stride = queries.row_stride,
      .q_rope_head_stride = queries.head_stride,
      .rows = std::span(queries.rows).subspan(first, count),
      .heads = model.heads,
      .scale = 0.11F,
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
  LatentAttentionTask task = task_of(scene, queries, first, count);
  std::int64_t longest = 0;
  for (const AttentionRow& row : task.rows) {
    longest = std::max(longest, row.position + 1);
  }
  // Exactly what is asked for, and poisoned.
  auto scratch = poison(latent_attention_scratch(
      context.pool->workers(),
      static_cast<std::int64_t>(count),
      model.heads,
      model.latent,
      model.rope,
      longest
  ));
  auto out = poison(count * static_cast<std::size_t>(model.heads * model.latent));
  task.scratch = scratch;
  task.out = out.data();
  latent_attention(context, task);
  return out;
}

std::vector<float> reference(Scene& scene, const Queries& queries, Compute compute) {
  LatentAttentionTask task = task_of(scene, queries, 0, queries.rows.size());
  auto out = poison(queries.rows.size() * static_cast<std::size_t>(task.heads * task.pages.latent));
  task.out = out.data();
  latent_attention_reference(task, compute);
  return out;
}

class LatentAttentionOf : public ::testing::TestWithParam<Model> {};

TEST_P(LatentAttentionOf, MatchesTheReferenceAndItselfOnEveryIsa) {
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

TEST_P(LatentAttentionOf, GivesARowTheSameBitsAloneInAChunkAndOnAnyTeam) {
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
  const auto row_floats = static_cast<std::size_t>(GetParam().heads * GetParam().latent);
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

TEST_P(LatentAttentionOf, SeesNothingPastItsPosition) {
  Random random(3);
  Scene scene(random, GetParam(), {300});
  const Queries queries(random, GetParam(), {scene.row(0, 130), scene.row(0, 133)});
  device::ThreadPool pool(2);
  const Context context = {&pool, device::detect_cpu_isa(), Compute::Float32};
  const auto with_later_tokens = run(context, scene, queries, 0, 2);

  scene.forget_after(0, 133);

  EXPECT_TRUE(same_bits(run(context, scene, queries, 0, 2), with_later_tokens));
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    LatentAttentionOf,
    ::testing::Values(
        Model{8, 64, 16, DType::F32},
        Model{8, 64, 16, DType::BF16},
        Model{3, 37, 6, DType::F32},
        Model{3, 37, 6, DType::BF16},
        Model{70, 32, 0, DType::F32},
        Model{1, 16, 2, DType::BF16}
    )
);

TEST(LatentAttention, HoldsUpAgainstScoresFarApart) {
  Random random(4);
  Scene scene(random, {2, 16, 4, DType::F32}, {200});
  Queries queries(random, scene.model(), {scene.row(0, 199)});
  for (float& q : queries.q_latent) {
    q *= 300;
  }
  device::ThreadPool pool(1);

  const auto out = run({&pool, device::detect_cpu_isa(), Compute::Float32}, scene, queries, 0, 1);

  EXPECT_LE(testing::largest_difference(out, reference(scene, queries, Compute::Float32)), 1e-3F);
}

TEST(LatentAttention, DoesNothingWithoutRows) {
  Random random(5);
  Scene scene(random, {2, 16, 4, DType::F32}, {1});
  const Queries queries(random, scene.model(), {});
  device::ThreadPool pool(1);

  LatentAttentionTask task = task_of(scene, queries, 0, 0);
  latent_attention({&pool, device::detect_cpu_isa(), Compute::Float32}, task);
}

TEST(LatentAttentionScratch, GrowsWithEveryArgument) {
  const std::size_t base = latent_attention_scratch(2, 10, 8, 64, 16, 4000);

  EXPECT_GE(latent_attention_scratch(3, 10, 8, 64, 16, 4000), base);
  EXPECT_GE(latent_attention_scratch(2, 11, 8, 64, 16, 4000), base);
  EXPECT_GE(latent_attention_scratch(2, 10, 8, 65, 16, 4000), base);
  EXPECT_GE(latent_attention_scratch(2, 10, 8, 64, 17, 4000), base);
  EXPECT_GE(latent_attention_scratch(2, 10, 8, 64, 16, 9000), base);
}

TEST(LatentAttentionScratch, StaysSmallForLongContexts) {
  const std::size_t floats = latent_attention_scratch(16, 8192, 128, 512, 64, 131'072);

  EXPECT_LT(floats * sizeof(float), std::size_t{64} << 20U);
}

TEST(LatentAttentionDeathTest, EndsOnScratchThatIsTooSmall) {
  Random random(6);
  Scene scene(random, {2, 16, 4, DType::F32}, {1});
  const Queries queries(random, scene.model(), {scene.row(0, 0)});
  device::ThreadPool pool(1);
  LatentAttentionTask task = task_of(scene, queries, 0, 1);

  EXPECT_DEATH(
      latent_attention({&pool, device::CpuIsa::Portable, Compute::Float32}, task), "scratch"
  );
}

}  // namespace
}  // namespace pleiad::kernels
