#include "engine/rank_balancer.h"

#include <gtest/gtest.h>

namespace pleiad::engine {
namespace {

// A rank that says what it is told to say and remembers what it was asked.
class FakeRank final : public api::Generator {
 public:
  explicit FakeRank(std::uint64_t first_id) : next_(first_id) {}

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& /*sink*/)
      override {
    if (full) return exhausted("full");
    state.tokens_outstanding += static_cast<std::int64_t>(request.prompt.size());
    ++submitted;
    return api::RequestId(next_);
  }
  void cancel(api::RequestId /*request*/) override { ++cancelled; }
  void finish_early(api::RequestId /*request*/) override {}
  [[nodiscard]] api::GeneratorStatus status() const override { return state; }
  [[nodiscard]] api::GeneratorLimits limits() const override { return {}; }
  void reset_prefix_cache() override {}

  api::GeneratorStatus state{.accepting = true};
  bool full = false;
  int submitted = 0;
  int cancelled = 0;

 private:
  std::uint64_t next_;
};

class NoSink final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {}
  void on_finish(const api::FinishEvent& /*event*/) override {}
};

api::GenerationRequest request_of(std::size_t tokens) {
  return {.prompt = std::vector<TokenId>(tokens, 7)};
}

TEST(RankBalancer, GivesToTheRankWithTheLeastAhead) {
  FakeRank a(2);
  FakeRank b(3);
  RankBalancer balancer({&a, &b});
  NoSink sink;
  a.state.tokens_outstanding = 100;

  EXPECT_TRUE(balancer.submit(request_of(60), sink).ok());
  EXPECT_TRUE(balancer.submit(request_of(60), sink).ok());  // b stands at 60, a at 100
  EXPECT_TRUE(balancer.submit(request_of(1), sink).ok());   // b at 120 now

  EXPECT_EQ(b.submitted, 2);
  EXPECT_EQ(a.submitted, 1);
}

TEST(RankBalancer, EqualTokensAreDecidedByPages) {
  FakeRank a(2);
  FakeRank b(3);
  a.state.pages_held = 5;
  RankBalancer balancer({&a, &b});
  NoSink sink;

  EXPECT_TRUE(balancer.submit(request_of(1), sink).ok());

  EXPECT_EQ(b.submitted, 1);
}

TEST(RankBalancer, AFullRankPassesTheRequestOn) {
  FakeRank a(2);
  FakeRank b(3);
  a.full = true;
  RankBalancer balancer({&a, &b});
  NoSink sink;

  EXPECT_TRUE(balancer.submit(request_of(1), sink).ok());
  b.full = true;
  const auto refused = balancer.submit(request_of(1), sink);

  EXPECT_EQ(b.submitted, 1);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::Exhausted);
}

TEST(RankBalancer, FindsARequestsRankByItsId) {
  FakeRank a(2);
  FakeRank b(3);
  RankBalancer balancer({&a, &b});

  balancer.cancel(api::RequestId(5));
  balancer.cancel(api::RequestId(4));
  balancer.cancel(api::RequestId(7));

  EXPECT_EQ(a.cancelled, 1);
  EXPECT_EQ(b.cancelled, 2);
}

TEST(RankBalancer, OfTensorPartsOnlyTheFirstTakesRequestsAndCounts) {
  FakeRank a(4);
  FakeRank a_part(5);
  FakeRank b(6);
  FakeRank b_part(7);
  a.state.pages_total = b.state.pages_total = a_part.state.pages_total = 10;
  RankBalancer balancer({&a, &a_part, &b, &b_part}, 2);
  NoSink sink;

  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(balancer.submit(request_of(10), sink).ok());
  }
  balancer.cancel(api::RequestId(6));

  EXPECT_EQ(a.submitted, 2);
  EXPECT_EQ(b.submitted, 2);
  EXPECT_EQ(a_part.submitted + b_part.submitted, 0);
  EXPECT_EQ(b.cancelled, 1);
  EXPECT_EQ(balancer.status().pages_total, 20);
}

TEST(RankBalancer, SumsWhatRanksSay) {
  FakeRank a(2);
  FakeRank b(3);
  a.state = {.accepting = true, .running = 1, .pages_total = 10, .seconds_since_progress = 2.0};
  b.state = {.accepting = false, .running = 2, .pages_total = 10, .seconds_since_progress = 1.0};
  const RankBalancer balancer({&a, &b});

  const auto status = balancer.status();

  EXPECT_FALSE(status.accepting);
  EXPECT_EQ(status.running, 3);
  EXPECT_EQ(status.pages_total, 20);
  EXPECT_EQ(status.seconds_since_progress, 2.0);
}

}  // namespace
}  // namespace pleiad::engine
