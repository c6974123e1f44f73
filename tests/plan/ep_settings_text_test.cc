#include "plan/ep_settings_text.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::plan {
namespace {

using testing::HasSubstr;

std::string refusal(std::string_view text) {
  const auto scales = parse_buffer_scales(text);
  return scales.ok() ? "" : scales.error().message;
}

TEST(EpSettingsText, LevelsAndRoutingsComeBack) {
  for (const EpLevel level : {EpLevel::Auto, EpLevel::AllGather, EpLevel::AllToAll})
    EXPECT_EQ(parse_ep_level(to_string(level)).value(), level);
  for (const Routing routing : {Routing::Gate, Routing::Hash})
    EXPECT_EQ(parse_routing(to_string(routing)).value(), routing);
}

TEST(EpSettingsText, OtherLevelsAndRoutingsAreRefused) {
  EXPECT_THAT(
      parse_ep_level("3").error().message, HasSubstr("1 (AllGather), 2 (AllToAll) or auto")
  );
  EXPECT_FALSE(parse_ep_level("").ok());
  EXPECT_THAT(parse_routing("top").error().message, HasSubstr("gate or hash"));
}

TEST(EpSettingsText, BufferScalesComeBack) {
  const auto scales = parse_buffer_scales("[[8192, 5.2], [0, 8]]").value();

  ASSERT_EQ(scales.size(), 2U);
  EXPECT_EQ(scales[0].tokens, 8192);
  EXPECT_EQ(scales[0].factor, 5.2);
  EXPECT_EQ(scales[1].factor, 8.0);
  EXPECT_EQ(buffer_scales_text(scales), "[[8192,5.2],[0,8.0]]");
  EXPECT_EQ(
      buffer_scales_text(
          parse_buffer_scales(buffer_scales_text(EpSettings::default_buffer_scales())).value()
      ),
      "[[1048576,1.32],[524288,1.4],[262144,1.53],[131072,1.8],[32768,3.0],[8192,5.2],[0,8.0]]"
  );
}

TEST(EpSettingsText, MalformedBufferScalesAreRefused) {
  EXPECT_THAT(refusal("8"), HasSubstr("is a integer"));
  EXPECT_THAT(refusal("[8192, 5.2]"), HasSubstr("entry 0 is 8192"));
  EXPECT_THAT(refusal("[[8192, 5.2], [0]]"), HasSubstr("entry 1 is [0]"));
  EXPECT_THAT(refusal("[[0.5, 1]]"), HasSubstr("[8192, 5.2]"));
  EXPECT_THAT(refusal("[[0, \"1\"]]"), HasSubstr("entry 0"));
  EXPECT_THAT(refusal("[[0, -1]]"), HasSubstr("above 0"));
  EXPECT_THAT(refusal("[[0, 1], [8, 1]]"), HasSubstr("8 follows 0"));
  EXPECT_THAT(refusal("[[8, 1]]"), HasSubstr("must be 0"));
  EXPECT_THAT(refusal("[["), HasSubstr("alltoall_ep_buffer_scale_factors: malformed"));
}

}  // namespace
}  // namespace pleiad::plan
