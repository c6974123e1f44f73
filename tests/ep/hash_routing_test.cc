#include "ep/hash_routing.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace pleiad::ep {
namespace {

struct Chosen {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;

  friend bool operator==(const Chosen&, const Chosen&) = default;
};

Chosen
choose(std::span<const TokenId> tokens, std::int64_t layer, const kernels::GateOptions& options) {
  Chosen out;
  out.ids.resize(tokens.size() * static_cast<std::size_t>(options.topk), -1);
  out.weights.resize(out.ids.size(), -1.0F);
  hash_experts(tokens, layer, options, out.ids.data(), out.weights.data());
  return out;
}

std::vector<TokenId> tokens_up_to(TokenId count) {
  std::vector<TokenId> out(count);
  std::iota(out.begin(), out.end(), TokenId{0});
  return out;
}

TEST(HashRouting, ChoicesAreDistinctAscendingAndEquallyWeighted) {
  for (const std::int64_t experts : {4, 7, 32, 256}) {
    const kernels::GateOptions options{.experts = experts, .topk = 4, .scale = 2.5F};
    const auto tokens = tokens_up_to(500);

    const Chosen chosen = choose(tokens, 3, options);

    for (std::size_t row = 0; row < tokens.size(); ++row) {
      const auto ids = std::span(chosen.ids).subspan(row * 4, 4);
      ASSERT_GE(ids.front(), 0);
      ASSERT_LT(ids.back(), experts);
      ASSERT_EQ(std::ranges::adjacent_find(ids, std::greater_equal{}), ids.end());
    }
    for (const float weight : chosen.weights) {
      ASSERT_EQ(weight, 2.5F / 4.0F);
    }
  }
}

TEST(HashRouting, DependsOnTokenAndLayerAlone) {
  const kernels::GateOptions options{.experts = 32, .topk = 4};
  const auto tokens = tokens_up_to(100);
  const Chosen together = choose(tokens, 1, options);

  EXPECT_EQ(choose(tokens, 1, options), together);
  EXPECT_NE(choose(tokens, 2, options).ids, together.ids);
  for (const TokenId token : tokens) {
    const auto alone = choose({&token, 1}, 1, options).ids;
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.ids.begin() + token * 4));
  }
}

TEST(HashRouting, AsManyChoicesAsExpertsAreAllOfThem) {
  const auto tokens = tokens_up_to(20);

  const Chosen chosen = choose(tokens, 0, {.experts = 6, .topk = 6});

  for (std::size_t i = 0; i < chosen.ids.size(); ++i) {
    ASSERT_EQ(chosen.ids[i], static_cast<std::int32_t>(i % 6));
  }
}

TEST(HashRouting, SpreadsTokensOverExpertsRoughlyEvenly) {
  const kernels::GateOptions options{.experts = 32, .topk = 4};
  const auto tokens = tokens_up_to(32'000);
  for (const std::int64_t layer : {0, 1, 60}) {
    std::vector<std::int64_t> load(32);
    for (const std::int32_t expert : choose(tokens, layer, options).ids) {
      ++load[static_cast<std::size_t>(expert)];
    }
    // 4000 are expected, with a standard deviation of about 60.
    for (const std::int64_t count : load) {
      EXPECT_NEAR(static_cast<double>(count), 4000.0, 300.0) << "layer " << layer;
    }
  }
}

}  // namespace
}  // namespace pleiad::ep
