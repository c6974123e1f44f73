#include "sim/timeline.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::sim {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

TEST(Timeline, ThingsHappenInOrderOfTimeAndThenOfBeingArranged) {
  Timeline timeline;
  std::vector<int> happened;
  timeline.after(milliseconds(2), [&] { happened.push_back(3); });
  timeline.after(milliseconds(1), [&] { happened.push_back(1); });
  timeline.after(milliseconds(1), [&] {
    happened.push_back(2);
    EXPECT_EQ(timeline.now(), milliseconds(1));
    timeline.at(milliseconds(0), [&] { happened.push_back(9); });  // over: at once
  });
  while (timeline.step()) {
  }
  EXPECT_THAT(happened, ElementsAre(1, 2, 9, 3));
  EXPECT_EQ(timeline.now(), milliseconds(2));
  EXPECT_EQ(timeline.steps(), 4U);
}

}  // namespace
}  // namespace pleiad::sim
