// Random services under random troubles answer like one worker that nothing happens to.
#include <cstdlib>
#include <string>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/log.h"
#include "tests/service/service_run.h"

namespace pleiad::service {
namespace {

using ::testing::Each;
using ::testing::Gt;
using ::testing::HasSubstr;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class Services : public ::testing::Test {
 protected:
  // Workers are lost all the time.
  Services() { set_log_level(std::getenv("PLEIAD_LOUD") ? LogLevel::Debug : LogLevel::Error); }
  ~Services() override { set_log_level(LogLevel::Info); }

  References references_;
};

void print(const ServiceReport& sum) {
  fmt::print(
      "{} requests: {} whole, {} failed, {} cancelled; {} hand-overs, {} replays, {} prefills "
      "lost\n",
      sum.requests,
      sum.whole,
      sum.failed,
      sum.cancelled,
      sum.hand_overs,
      sum.replays,
      sum.prefill_losses
  );
  for (std::size_t action = 0; action < kActions; ++action) {
    std::string line;
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      line +=
          fmt::format(" {} {}", sum.happened[action][phase], to_string(static_cast<Phase>(phase)));
    }
    fmt::print("{:6}:{}\n", to_string(static_cast<Action>(action)), line);
  }
}

// PLEIAD_SEED begins elsewhere, PLEIAD_SERVICES runs more: with 1 a seed that failed is repeated.
TEST_F(Services, AnswerAsOneWorkerDoesWhateverHappens) {
  const std::uint64_t first = number_from("PLEIAD_SEED", 1);
  const std::uint64_t count = number_from("PLEIAD_SERVICES", 200);
  const SystemClock clock;
  ServiceReport sum;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const Scenario scenario = draw_scenario(seed);
    const Nanoseconds begin = clock.now();
    const ServiceReport report = run_service(scenario, references_);
    if (std::getenv("PLEIAD_LOUD"))
      fmt::print("{} {:.2f} s {}\n", seed, to_seconds(clock.now() - begin), scenario.story());
    ASSERT_EQ(report.violation, "")
        << scenario.story() << "\nrepeat with PLEIAD_SERVICES=1 PLEIAD_SEED=" << seed;
    sum.add(report);
  }
  print(sum);
  if (count < 200) return;
  // Every trouble met every phase, and made a difference.
  for (const auto& phases : sum.happened)
    EXPECT_THAT(phases, Each(Gt(0U)));
  EXPECT_GT(sum.replays, count / 10);
  EXPECT_GT(sum.prefill_losses, count / 10);
  EXPECT_GT(sum.whole, sum.requests / 2);
  EXPECT_LT(sum.failed, sum.requests / 5);
}

// Any prefill worker that computes the prompt dies, and comes back at once.
Scenario killer_of_prefill_workers() {
  Scenario out = draw_scenario(1);
  const WorkerSettings settings = out.workers.front();
  out.workers.assign(6, settings);
  for (std::size_t i = 0; i < out.workers.size(); ++i) {
    out.workers[i].role = i < 3 ? api::Role::Prefill : api::Role::Decode;
  }
  out.prefill_tokens_min = 1;
  out.troubles = {
      {.phase = Phase::Prefill,
       .action = Action::Kill,
       .request = 0,
       .always = true,
       .pause = std::chrono::milliseconds(1)}};
  return out;
}

TEST_F(Services, StopAPromptThatKillsPrefillWorkersAfterTheSecond) {
  const ServiceReport report = run_service(killer_of_prefill_workers(), references_);
  EXPECT_EQ(report.violation, "");
  EXPECT_GT(report.failed, 0U);  // its neighbours may have been with the same two
  const auto& kills = report.happened[static_cast<std::size_t>(Action::Kill)];
  EXPECT_EQ(kills[static_cast<std::size_t>(Phase::Prefill)], 2U);
}

// What the checks find in some services whose workers are broken; empty: nothing.
std::string found(References& references, Broken broken) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const Scenario scenario = draw_scenario(seed);
    const auto report =
        run_service(scenario, references, {.broken = broken, .patience = std::chrono::seconds(4)});
    if (!report.violation.empty()) return report.violation;
  }
  return "";
}

TEST_F(Services, FindWorkersThatGoOnFromAnotherToken) {
  EXPECT_THAT(found(references_, Broken::ResumesWrongly), HasSubstr("is right"));
}

TEST_F(Services, FindWorkersThatTellATokenTwice) {
  EXPECT_NE(found(references_, Broken::TellsTwice), "");
}

TEST_F(Services, FindWorkersThatForgetEnds) {
  EXPECT_NE(found(references_, Broken::ForgetsEnds), "");
}

TEST_F(Services, FindWorkersThatHoldPromptsNobodyWants) {
  EXPECT_THAT(found(references_, Broken::ForgetsCancels), HasSubstr("holds"));
}

TEST_F(Services, FindWorkersWhoseScoresAreNearlyRight) {
  EXPECT_THAT(found(references_, Broken::RoundsScores), HasSubstr("scores"));
}

}  // namespace
}  // namespace pleiad::service
