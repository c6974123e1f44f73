#include "kernels/row_codec.h"

#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using testing::poison;
using testing::random_floats;
using testing::same_bits;

struct Case {
  Compute compute;
  device::DType dtype;
};

class RowCodec : public ::testing::TestWithParam<Case> {};

TEST_P(RowCodec, BringsRowsBackBitByBit) {
  Random random(3);
  for (const std::int64_t width : {1, 31, 32, 33, 257}) {
    constexpr std::int64_t kRows = 5;
    const auto x =
        random_floats(random, static_cast<std::size_t>(kRows * width), GetParam().compute);
    const std::vector<std::int32_t> chosen = {4, 0, 0, 3};
    const auto lines = static_cast<std::int64_t>(chosen.size());
    device::ThreadPool pool(2);
    const Context context{&pool, device::CpuIsa::Portable, GetParam().compute};
    const auto row_bytes = static_cast<std::size_t>(width) * device::size_of(GetParam().dtype);
    std::vector<std::byte> wire(chosen.size() * row_bytes + 1);
    pack_rows(
        context,
        {.x = x.data(),
         .x_rows = chosen.data(),
         .rows = lines,
         .width = width,
         .dtype = GetParam().dtype,
         .out = wire.data() + 1}  // no alignment is promised
    );
    const std::vector<std::int32_t> order = {3, 1, 0, 2};
    auto y = poison(chosen.size() * static_cast<std::size_t>(width));
    unpack_rows(
        context,
        {.bytes = wire.data() + 1,
         .from_rows = order.data(),
         .dtype = GetParam().dtype,
         .rows = lines,
         .width = width,
         .y = y.data()}
    );
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const auto w = static_cast<std::size_t>(width);
      EXPECT_TRUE(same_bits(
          std::span(y).subspan(i * w, w),
          std::span(x).subspan(
              static_cast<std::size_t>(chosen[static_cast<std::size_t>(order[i])]) * w, w
          )
      )) << width;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Types,
    RowCodec,
    ::testing::Values(
        Case{Compute::Float32, device::DType::F32},
        Case{Compute::BFloat16, device::DType::BF16},
        Case{Compute::BFloat16, device::DType::F32}
    )
);

}  // namespace
}  // namespace pleiad::kernels
