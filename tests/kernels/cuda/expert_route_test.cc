#include "kernels/cuda/expert_route.h"

#include <tuple>

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

struct Case {
  std::int64_t experts = 0;
  std::int64_t hidden = 0;
  std::int64_t shared = 0;
  DType dtype = DType::BF16;
  Compute gate = Compute::Float32;
};

// A layer's gate, and rows on their way to it.
class Scene {
 public:
  Scene(const Case& the_case, std::int64_t rows, Random& random)
      : case_(the_case),
        rows_(rows),
        lines_(rows * (kTopk + the_case.shared)),
        residual_(floats(random, rows * the_case.hidden), the_case.hidden, DType::F32),
        delta_(floats(random, rows * the_case.hidden), the_case.hidden, the_case.dtype),
        norm_(floats(random, the_case.hidden)),
        bias_(floats(random, the_case.experts)),
        gate_(kernels::testing::pack(
                  floats(random, the_case.experts * the_case.hidden),
                  the_case.experts,
                  the_case.hidden,
                  the_case.gate
        )
                  .matrix),
        positions_(places(rows)),
        arrivals_(std::vector<std::uint32_t>{0}) {}

  // Everything the ops leave behind, poisoned before.
  auto outcome(device::cuda::Stream& stream, bool together) const {
    const std::int64_t experts = case_.experts + case_.shared;
    const auto count = static_cast<std::size_t>(lines_);
    const DeviceActivations x(
        testing::poison(static_cast<std::size_t>(rows_ * case_.hidden)), case_.hidden, case_.dtype
    );
    const DeviceArray<float> logits(testing::poison(static_cast<std::size_t>(rows_ * case_.experts))
    );
    const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>(count, -7));
    const DeviceArray<float> weights(testing::poison(count));
    const DeviceArray<std::int32_t> starts(
        std::vector<std::int32_t>(static_cast<std::size_t>(experts + 1), -7)
    );
    const DeviceArray<std::int32_t> x_rows(std::vector<std::int32_t>(count, -7));
    const DeviceArray<std::int32_t> line_of(std::vector<std::int32_t>(count, -7));
    const DeviceArray<float> line_weights(std::vector<float>(count, -7.0F));
    const DeviceArray<std::uint64_t> chosen(
        std::vector<std::uint64_t>(static_cast<std::size_t>(case_.experts), 3)
    );
    const DeviceArray<std::int32_t> scratch(std::vector<std::int32_t>(
        static_cast<std::size_t>(group_scratch_ints(rows_, kTopk + case_.shared, experts)), -7
    ));
    const ExpertRouteTask task{
        .norm =
            {.x = residual_.rows(),
             .add = delta_.rows(),
             .keeps_x = true,
             .rows = rows_,
             .width = case_.hidden,
             .weight = norm_.data(),
             .y = x.rows()},
        .gate =
            {.x = x.rows(),
             .rows = rows_,
             .weight = gate_.matrix(),
             .bias = bias_.data(),
             .logits = logits.data()},
        .select =
            {.options = {.experts = case_.experts, .topk = kTopk, .groups = 4, .topk_groups = 2},
             .logits = logits.data(),
             .rows = rows_,
             .shared = case_.shared,
             .ids = ids.data(),
             .weights = weights.data()},
        .group =
            {.ids = ids.data(),
             .positions = positions_.data(),
             .weights = weights.data(),
             .rows = rows_,
             .topk = kTopk + case_.shared,
             .experts = experts,
             .starts = starts.data(),
             .x_rows = x_rows.data(),
             .line_of = line_of.data(),
             .line_weights = line_weights.data(),
             .counted = case_.experts,
             .chosen = chosen.data(),
             .scratch = scratch.data()},
        .arrivals = arrivals_.data()};
    if (together) {
      route_to_experts(stream, task);
    } else {
      rms_norm(stream, task.norm);
      gate_logits(stream, task.gate);
      select_experts(stream, task.select);
      group_by_expert(stream, task.group);
    }
    return std::tuple(
        x.values(stream),
        logits.values(stream),
        ids.values(stream),
        weights.values(stream),
        starts.values(stream),
        x_rows.values(stream),
        line_of.values(stream),
        line_weights.values(stream),
        chosen.values(stream),
        arrivals_.values(stream)
    );
  }

  static constexpr std::int64_t kTopk = 8;

 private:
  static std::vector<float> floats(Random& random, std::int64_t count) {
    return testing::random_floats(random, static_cast<std::size_t>(count), Compute::BFloat16);
  }
  // The last of several rows is left out.
  static std::vector<std::int32_t> places(std::int64_t rows) {
    std::vector<std::int32_t> out(static_cast<std::size_t>(rows), 4);
    if (rows > 1) out.back() = -1;
    return out;
  }

  Case case_;
  std::int64_t rows_;
  std::int64_t lines_;
  DeviceActivations residual_;
  DeviceActivations delta_;
  DeviceArray<float> norm_;
  DeviceArray<float> bias_;
  testing::UploadedMatrix gate_;
  DeviceArray<std::int32_t> positions_;
  DeviceArray<std::uint32_t> arrivals_;
};

TEST(CudaRouteToExperts, DoesAsTheOpsOneByOneDoTimeAfterTime) {
  auto stream = testing::test_stream();
  Random random(5);
  for (const Case& the_case : std::initializer_list<Case>{
           {.experts = 16, .hidden = 64, .dtype = DType::F32},
           {.experts = 128, .hidden = 2048},
           {.experts = 64, .hidden = 2048, .shared = 2},
           {.experts = 256, .hidden = 7168, .shared = 1},
           {.experts = 128, .hidden = 2048, .gate = Compute::BFloat16},
           {.experts = 60, .hidden = 576, .shared = 2, .gate = Compute::BFloat16},
           {.experts = 256, .hidden = 7168, .shared = 1, .gate = Compute::BFloat16},
           {.experts = 1020, .hidden = 300, .shared = 2, .dtype = DType::F32}}) {
    for (const std::int64_t rows : {1, 2, 16, 17, 128}) {
      const Scene scene(the_case, rows, random);
      const auto expected = scene.outcome(stream, false);
      for (int turn = 0; turn < 2; ++turn) {
        const auto got = scene.outcome(stream, true);
        EXPECT_EQ(got, expected) << the_case.experts << " experts, " << rows << " rows";
      }
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
