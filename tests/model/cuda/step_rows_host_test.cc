#include <gtest/gtest.h>

#include "model/cuda/step_rows.h"

namespace pleiad::model::cuda {
namespace {

TEST(RecordedRows, AreTheNextPowerOfTwo) {
  EXPECT_EQ(recorded_rows(1, 128), 1);
  EXPECT_EQ(recorded_rows(2, 128), 2);
  EXPECT_EQ(recorded_rows(3, 128), 4);
  EXPECT_EQ(recorded_rows(65, 128), 128);
  EXPECT_EQ(recorded_rows(128, 128), 128);
}

TEST(RecordedRows, AreNoneForLargeStepsAndWhereTheyWouldNotFit) {
  EXPECT_EQ(recorded_rows(0, 128), 0);
  EXPECT_EQ(recorded_rows(129, 128), 0);
  EXPECT_EQ(recorded_rows(65, 100), 0);
  EXPECT_EQ(recorded_rows(64, 100), 64);
}

}  // namespace
}  // namespace pleiad::model::cuda
