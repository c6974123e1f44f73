#include "text/detail/tracked_text.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

using ::testing::ElementsAre;

TEST(TrackedText, MarksFollowTheirBytes) {
  TrackedText text("ab");
  text.append("cd", true);
  text.append("ef", true);
  text.append("gh", false);

  EXPECT_THAT(text.untrusted(), ElementsAre(TextRange{2, 6}));
  EXPECT_THAT(text.slice({3, 7}).untrusted(), ElementsAre(TextRange{0, 3}));
  EXPECT_THAT(text.slice({0, 2}).untrusted(), ElementsAre());
}

TEST(TrackedText, AppendingKeepsMarksApartOrJoinsThem) {
  TrackedText text("ab", true);
  text.append(TrackedText("cd", true));
  text.append(TrackedText("-"));
  text.append(TrackedText("ef", true), {1, 2});

  EXPECT_EQ(text.bytes(), "abcd-f");
  EXPECT_THAT(text.untrusted(), ElementsAre(TextRange{0, 4}, TextRange{5, 6}));
}

TEST(TrackedText, RunsCoverAllOfIt) {
  TrackedText text("ab");
  text.append("c", true);
  text.append("d", false);

  std::string joined;
  for (const auto& run : text.runs()) {
    joined += std::string(run.bytes) + (run.untrusted ? "!" : ".");
  }
  EXPECT_EQ(joined, "ab.c!d.");
}

TEST(TrackedText, EmptyPiecesLeaveNoMark) {
  TrackedText text;
  text.append("", true);

  EXPECT_FALSE(text.any_untrusted());
}

}  // namespace
}  // namespace pleiad::text::detail
