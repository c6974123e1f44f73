#include "base/log.h"

#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

TEST(Log, WritesOneLineToStderrWhenTheLevelIsOn) {
  set_log_level(LogLevel::Warning);
  testing::internal::CaptureStderr();

  PLEIAD_LOG(Info, "quiet {}", 1);
  PLEIAD_LOG(Error, "loud {}", 2);

  const std::string written = testing::internal::GetCapturedStderr();
  set_log_level(LogLevel::Info);
  EXPECT_EQ(written.find("quiet"), std::string::npos);
  EXPECT_NE(written.find("loud 2\n"), std::string::npos);
}

TEST(Log, BracesInTheTextAreText) {
  testing::internal::CaptureStderr();

  log_line(LogLevel::Error, "{not a field}");

  EXPECT_NE(testing::internal::GetCapturedStderr().find("{not a field}"), std::string::npos);
}

}  // namespace
}  // namespace pleiad
