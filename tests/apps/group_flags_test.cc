#include "apps/group_flags.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::apps {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// An environment variable for the time of a test.
class Environment {
 public:
  Environment(std::string name, const std::string& value) : name_(std::move(name)) {
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  ~Environment() { ::unsetenv(name_.c_str()); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::string name_;
};

// What a command line with these words comes to.
Result<GroupChoice> choose(std::vector<std::string> words) {
  CLI::App app;
  GroupFlags flags;
  add_size_flags(app, flags);
  add_ep_flags(app, flags);
  std::ranges::reverse(words);
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return invalid_input("parse: {}", error.what());
  }
  return complete(flags);
}

std::string refusal(std::vector<std::string> words) {
  const auto choice = choose(std::move(words));
  if (choice.ok()) return "accepted";
  EXPECT_EQ(choice.error().kind, ErrorKind::InvalidInput);
  return choice.error().message;
}

// dp x tp = ep x moe_tp, over nodes.
std::string sizes(std::vector<std::string> words) {
  const auto choice = choose(std::move(words));
  if (!choice.ok()) return choice.error().message;
  const plan::ParallelLayout& l = choice->layout;
  return std::to_string(l.dp_size) + "x" + std::to_string(l.tp_size) + "=" +
         std::to_string(l.ep_size) + "x" + std::to_string(l.moe_tp_size) + "/" +
         std::to_string(l.nnodes);
}

TEST(GroupFlags, NothingSaidIsOneRank) {
  EXPECT_EQ(sizes({}), "1x1=1x1/1");
  const auto choice = choose({}).value();
  EXPECT_EQ(choice.settings.level, plan::EpLevel::Auto);
  EXPECT_EQ(choice.settings.routing, plan::Routing::Gate);
  EXPECT_FALSE(choice.settings.two_batch_overlap);
}

TEST(GroupFlags, EveryAliasSaysTheSame) {
  for (const char* flag : {"--ep-size", "--ep", "--moe-ep-size"}) {
    EXPECT_EQ(sizes({flag, "4"}), "4x1=4x1/1") << flag;
  }
  for (const char* flag : {"--dp-size", "--dp", "--data-parallel-size"}) {
    EXPECT_EQ(sizes({flag, "8", "--ep-size", "4"}), "8x1=4x2/1") << flag;
  }
  for (const char* flag : {"--tp-size", "--tp", "--tensor-parallel-size"}) {
    EXPECT_EQ(sizes({flag, "2", "--dp-size", "2"}), "2x2=4x1/1") << flag;
  }
  for (const char* flag : {"--moe-tp-size", "--moe-tp"}) {
    EXPECT_EQ(sizes({flag, "2", "--ep-size", "2"}), "4x1=2x2/1") << flag;
  }
  for (const char* flag : {"--ep-level", "--expert-parallel-degree"}) {
    EXPECT_EQ(choose({flag, "2"}).value().settings.level, plan::EpLevel::AllToAll) << flag;
  }
  for (const char* flag : {"--enable-two-batch-overlap", "--enable-dbo"}) {
    EXPECT_TRUE(choose({flag}).value().settings.two_batch_overlap) << flag;
  }
  for (const char* flag : {"--two-batch-token-threshold", "--dbo-decode-token-threshold"}) {
    EXPECT_EQ(choose({flag, "77"}).value().settings.two_batch_tokens_min, 77) << flag;
  }
  EXPECT_EQ(sizes({"--ep-size", "4", "--nnodes", "2"}), "4x1=4x1/2");
}

TEST(GroupFlags, TheEnvironmentGivesSizesThatFlagsOverrule) {
  const Environment ep("EP_SIZE", "2");
  const Environment dp("DP_SIZE", "2");
  const Environment tp("TP_SIZE", "1");

  EXPECT_EQ(sizes({}), "2x1=2x1/1");
  EXPECT_EQ(sizes({"--ep-size", "1"}), "2x1=1x2/1");
}

TEST(GroupFlags, ASizeFromTheEnvironmentIsCheckedLikeOneFromAFlag) {
  const Environment ep("EP_SIZE", "many");
  EXPECT_THAT(refusal({}), AllOf(HasSubstr("parse"), HasSubstr("many")));
}

TEST(GroupFlags, BackendsAreLevelsInOtherWords) {
  for (const char* flag : {"--moe-a2a-backend", "--all2all-backend"}) {
    for (const char* gathers : {"none", "allgather_reducescatter"}) {
      EXPECT_EQ(choose({flag, gathers}).value().settings.level, plan::EpLevel::AllGather);
    }
    for (const char* scatters : {"deepep", "pplx"}) {
      EXPECT_EQ(choose({flag, scatters}).value().settings.level, plan::EpLevel::AllToAll);
    }
  }
  EXPECT_EQ(
      choose({"--moe-a2a-backend", "none", "--ep-level", "1"}).value().settings.level,
      plan::EpLevel::AllGather
  );
  EXPECT_THAT(
      refusal({"--moe-a2a-backend", "none", "--ep-level", "2"}),
      HasSubstr("--moe-a2a-backend none means --ep-level 1, which says 2")
  );
  EXPECT_THAT(
      refusal({"--moe-a2a-backend", "deepep", "--ep-level", "1"}),
      HasSubstr("--moe-a2a-backend deepep means --ep-level 2, which says 1")
  );
}

TEST(GroupFlags, SettingsOfTheLevelsAreRead) {
  const auto cut =
      choose({"--ep-level", "1", "--enable-init-routing-cutoff", "--topk-scaling-factor", "0.25"})
          .value();
  EXPECT_TRUE(cut.settings.enable_init_routing_cutoff);
  EXPECT_EQ(cut.settings.topk_scaling_factor, 0.25);

  const auto scaled =
      choose({"--alltoall-ep-buffer-scale-factors", "[[4096, 2.5], [0, 8]]"}).value();
  const auto& scales = scaled.settings.alltoall_ep_buffer_scale_factors;
  ASSERT_EQ(scales.size(), 2U);
  EXPECT_EQ(scales[0].tokens, 4096);
  EXPECT_EQ(scales[0].factor, 2.5);

  EXPECT_EQ(choose({"--routing", "hash"}).value().settings.routing, plan::Routing::Hash);
}

TEST(GroupFlags, ExpertParallelIsTheDefaultAndContradictsOtherSizes) {
  EXPECT_EQ(sizes({"--dp-size", "4", "--enable-expert-parallel"}), "4x1=4x1/1");
  EXPECT_THAT(
      refusal({"--dp-size", "4", "--ep-size", "2", "--enable-expert-parallel"}),
      AllOf(HasSubstr("all 4 ranks"), HasSubstr("--ep-size says 2"), HasSubstr("leave one"))
  );
}

TEST(GroupFlags, RefusalsNameRuleValueAndNearestValidValue) {
  EXPECT_THAT(
      refusal({"--ep-size", "0"}),
      AllOf(HasSubstr("ep_size is 0"), HasSubstr("nearest valid value 1"))
  );
  EXPECT_THAT(
      refusal({"--dp-size", "8", "--tp-size", "1", "--ep-size", "3"}),
      AllOf(HasSubstr("ep_size 3"), HasSubstr("8 ranks"), HasSubstr("2 and 4"))
  );
  EXPECT_THAT(
      refusal({"--ep-size", "4", "--nnodes", "3"}),
      AllOf(HasSubstr("3 nodes"), HasSubstr("nearest valid --nnodes: 2 and 4"))
  );
  EXPECT_THAT(refusal({"--ep-level", "3"}), AllOf(HasSubstr("ep_level is 3"), HasSubstr("auto")));
  EXPECT_THAT(
      refusal({"--enable-init-routing-cutoff", "--topk-scaling-factor", "1.5"}),
      AllOf(HasSubstr("topk_scaling_factor is 1.5"), HasSubstr("nearest valid value 1"))
  );
  EXPECT_THAT(refusal({"--topk-scaling-factor", "0.5"}), HasSubstr("enable_init_routing_cutoff"));
  EXPECT_THAT(
      refusal({"--alltoall-ep-buffer-scale-factors", "[[0, 1], [5, 1]]"}),
      AllOf(HasSubstr("thresholds must fall"), HasSubstr("at most -1"))
  );
  EXPECT_THAT(
      refusal({"--alltoall-ep-buffer-scale-factors", "[[0"}),
      HasSubstr("alltoall_ep_buffer_scale_factors")
  );
  EXPECT_THAT(
      refusal({"--two-batch-token-threshold", "1"}),
      AllOf(HasSubstr("two_batch_tokens_min is 1"), HasSubstr("at least 2"))
  );
  EXPECT_THAT(refusal({"--routing", "dice"}), AllOf(HasSubstr("--routing"), HasSubstr("gate")));
}

}  // namespace
}  // namespace pleiad::apps
