#include "model/tensor_exchange.h"

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/local_group.h"
#include "tests/kernels/support.h"

namespace pleiad::model {
namespace {

using kernels::testing::poison;
using kernels::testing::random_floats;
using kernels::testing::same_bits;
using ::testing::HasSubstr;

// One part with its scratch, on a thread of its own.
struct Part {
  device::ThreadPool pool{1};
  kernels::Context context;
  device::Scratch memory;
  std::unique_ptr<TensorExchange> exchange;

  Part(const TensorPlace& place, kernels::Compute compute)
      : context{&pool, device::CpuIsa::Portable, compute} {
    device::ArenaPlan plan;
    const TensorExchange::Limits limits{.gathered_floats = 4096, .part_floats = 4096};
    exchange = std::make_unique<TensorExchange>(place, limits, plan, 0, 1);
    memory = device::Scratch::allocate(std::move(plan)).value();
  }
};

// Runs `play` for every part at once, as ranks 1 .. parts of a group.
void with_parts(
    std::int32_t parts,
    kernels::Compute compute,
    const std::function<void(Part&, const TensorPlace&)>& play
) {
  auto groups = comm::make_local_group(parts + 1, {});
  std::vector<std::thread> threads;
  for (std::int32_t p = 0; p < parts; ++p) {
    threads.emplace_back([&, p] {
      const TensorPlace place{.parts = parts, .part = p, .first_rank = 1};
      Part part(place, compute);
      part.exchange->begin_step(groups[static_cast<std::size_t>(p + 1)].get());
      play(part, place);
      EXPECT_TRUE(part.exchange->end_step().ok());
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

// The columns that a part has of x [rows, width].
std::vector<float> columns_of(
    const std::vector<float>& x,
    std::int64_t width,
    std::int64_t unit,
    const TensorPlace& place
) {
  const PartRange units = part_of(width / unit, place.parts, place.part);
  std::vector<float> out;
  for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(width)) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row) + units.begin * unit;
    out.insert(out.end(), begin, begin + units.count * unit);
  }
  return out;
}

TEST(PartOf, SharesOutEverythingInOrder) {
  for (const std::int64_t whole : {0, 1, 7, 64, 129280}) {
    for (const std::int32_t parts : {1, 2, 3, 8}) {
      std::int64_t next = 0;
      for (std::int32_t part = 0; part < parts; ++part) {
        const PartRange range = part_of(whole, parts, part);
        EXPECT_EQ(range.begin, next);
        EXPECT_LE(range.count, whole / parts + 1);
        next += range.count;
      }
      EXPECT_EQ(next, whole);
    }
  }
}

class TensorExchangeOf : public ::testing::TestWithParam<kernels::Compute> {};

TEST_P(TensorExchangeOf, EveryPartGetsAllColumnsBitByBit) {
  constexpr std::int64_t kRows = 5;
  Random random(11);
  for (const std::int32_t parts : {2, 3, 4}) {
    for (const auto& [width, unit] :
         {std::pair<std::int64_t, std::int64_t>{96, 8}, {37, 1}, {2, 1}}) {
      const auto x = random_floats(random, static_cast<std::size_t>(kRows * width), GetParam());
      with_parts(parts, GetParam(), [&](Part& part, const TensorPlace& place) {
        const auto own = columns_of(x, width, unit, place);
        for (int round = 0; round < 3; ++round) {
          const auto all = part.exchange->gather(
              part.context,
              part.memory,
              {.own = own.data(),
               .rows = kRows,
               .width = width,
               .unit = unit,
               .dtype = wire_dtype(part.context),
               .step = "a test"}
          );
          ASSERT_TRUE(all.ok()) << all.error().message;
          EXPECT_TRUE(same_bits({*all, x.size()}, x)) << "parts " << parts << ", width " << width;
        }
      });
    }
  }
}

TEST_P(TensorExchangeOf, ColumnsAreAddedToTheResidualOfEveryPart) {
  Random random(12);
  const auto x = random_floats(random, 3 * 10, GetParam());
  const auto residual = random_floats(random, 3 * 10, kernels::Compute::Float32);
  with_parts(3, GetParam(), [&](Part& part, const TensorPlace& place) {
    const auto own = columns_of(x, 10, 1, place);
    auto sum = residual;
    const auto added = part.exchange->add(
        part.context,
        part.memory,
        {.own = own.data(),
         .rows = 3,
         .width = 10,
         .dtype = wire_dtype(part.context),
         .step = "a test"},
        sum.data()
    );
    ASSERT_TRUE(added.ok()) << added.error().message;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      EXPECT_EQ(sum[i], residual[i] + x[i]);
    }
  });
}

TEST_P(TensorExchangeOf, OnlyTheFirstPartCollects) {
  Random random(13);
  const auto x = random_floats(random, 2 * 9, kernels::Compute::Float32);
  with_parts(4, GetParam(), [&](Part& part, const TensorPlace& place) {
    const auto own = columns_of(x, 9, 1, place);
    auto y = poison(x.size());
    const auto collected = part.exchange->collect(
        part.context,
        part.memory,
        {.own = own.data(), .rows = 2, .width = 9, .step = "a test"},
        place.leads() ? y.data() : nullptr
    );
    ASSERT_TRUE(collected.ok()) << collected.error().message;
    EXPECT_EQ(same_bits(y, x), place.leads());
  });
}

TEST_P(TensorExchangeOf, RowsComeFromThePartThatHasThem) {
  Random random(14);
  for (const std::int64_t rows : {1, 2, 7}) {
    const auto x = random_floats(random, static_cast<std::size_t>(rows * 6), GetParam());
    with_parts(3, GetParam(), [&](Part& part, const TensorPlace& place) {
      auto y = poison(x.size());
      const PartRange own = part_of(rows, place.parts, place.part);
      std::copy_n(x.begin() + own.begin * 6, own.count * 6, y.begin() + own.begin * 6);
      const auto gathered = part.exchange->gather_rows(part.memory, y.data(), rows, 6);
      ASSERT_TRUE(gathered.ok()) << gathered.error().message;
      EXPECT_TRUE(same_bits(y, x)) << rows;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(
    Computes,
    TensorExchangeOf,
    ::testing::Values(kernels::Compute::Float32, kernels::Compute::BFloat16),
    [](const auto& compute) {
      return compute.param == kernels::Compute::Float32 ? "float32" : "bfloat16";
    }
);

TEST(TensorExchange, AlonePassesEverythingThrough) {
  Part part({}, kernels::Compute::Float32);
  part.exchange->begin_step(nullptr);
  const std::vector<float> x = {1.0F, 2.0F};
  const auto all = part.exchange->gather(
      part.context, part.memory, {.own = x.data(), .rows = 1, .width = 2, .step = "a test"}
  );

  EXPECT_EQ(*all, x.data());
  EXPECT_TRUE(part.exchange->end_step().ok());
}

TEST(TensorExchange, AMessageOfAnotherSizeIsNamed) {
  auto groups = comm::make_local_group(2, {});
  std::thread peer([&] {
    const std::vector<std::byte> few(4);
    groups[1]->send(0, few);
    std::vector<std::byte> heard(64);
    static_cast<void>(groups[1]->receive(0, heard, "a test").ok());
    static_cast<void>(groups[1]->wait_sends("a test").ok());
  });
  Part part({.parts = 2, .part = 0, .first_rank = 0}, kernels::Compute::Float32);
  part.exchange->begin_step(groups[0].get());
  const std::vector<float> own = {1.0F, 2.0F};
  const auto all = part.exchange->gather(
      part.context, part.memory, {.own = own.data(), .rows = 1, .width = 4, .step = "gather of x"}
  );
  peer.join();

  ASSERT_FALSE(all.ok());
  EXPECT_THAT(all.error().message, HasSubstr("gather of x: 4 bytes came, 8 were due"));
}

TEST(TensorExchange, APeerThatIsGoneIsAnError) {
  auto groups = comm::make_local_group(2, {});
  groups[1]->abort(unavailable("rank 1 is gone"));
  Part part({.parts = 2, .part = 0, .first_rank = 0}, kernels::Compute::Float32);
  part.exchange->begin_step(groups[0].get());
  std::vector<float> y(4);

  const auto gathered = part.exchange->gather_rows(part.memory, y.data(), 2, 2);
  ASSERT_FALSE(gathered.ok());
  EXPECT_THAT(gathered.error().message, HasSubstr("rank 1 is gone"));
}

}  // namespace
}  // namespace pleiad::model
