#include "base/exposition.h"

#include <array>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/metrics.h"

namespace pleiad {
namespace {

using ::testing::HasSubstr;

Result<Exposition> read_from(std::string_view text) {
  return parse_exposition(text, {.name = "engine", .values = {"2", "3"}});
}

MetricFamily family(std::string name, MetricType type, std::string samples) {
  return {.name = std::move(name), .help = "Help", .type = type, .samples = std::move(samples)};
}

std::string head(std::string_view name, std::string_view type) {
  return "# HELP " + std::string(name) + " Help\n# TYPE " + std::string(name) + " " +
         std::string(type) + "\n";
}

// A counter x_total with these lines.
std::string counter_text(const std::string& lines) {
  return head("x_total", "counter") + lines;
}

TEST(Exposition, LinesOfAFamilyStandTogetherWhereverTheyComeFrom) {
  const Exposition own = {
      family("a_total", MetricType::Counter, "a_total{engine=\"0\"} 1\n"),
      family("b", MetricType::Gauge, "b{engine=\"0\"} 2\n"),
  };
  const std::array<Exposition, 2> others = {
      Exposition{
          family("b", MetricType::Gauge, "b{engine=\"1\"} 3\n"),
          family("c", MetricType::Gauge, "c{engine=\"1\"} 4\n"),
      },
      Exposition{
          family("c", MetricType::Gauge, "c{engine=\"2\"} 5\n"),
          family("a_total", MetricType::Counter, "a_total{engine=\"2\"} 6\n"),
      },
  };

  EXPECT_EQ(
      to_text(merged(own, others)),
      head("a_total", "counter") + "a_total{engine=\"0\"} 1\na_total{engine=\"2\"} 6\n" +
          head("b", "gauge") + "b{engine=\"0\"} 2\nb{engine=\"1\"} 3\n" + head("c", "gauge") +
          "c{engine=\"1\"} 4\nc{engine=\"2\"} 5\n"
  );
  EXPECT_EQ(merged(own, {}), own);
  EXPECT_EQ(merged({}, others).size(), 3U);
}

TEST(Exposition, AFamilyOfAnotherTypeIsLeftOut) {
  const std::array<Exposition, 1> others = {
      Exposition{family("a", MetricType::Counter, "a{engine=\"1\"} 1\n")}};
  const Exposition own = {family("a", MetricType::Gauge, "a 2\n")};

  EXPECT_EQ(merged(own, others), own);
}

TEST(Exposition, WhatARegistryWritesIsReadBack) {
  MetricsRegistry registry;
  const std::array<double, 2> bounds = {0.001, 1e20};
  const MetricLabels two = {{"model_name", "a\"b\\c\nd,}e\xFF \xC3\xA4"}, {"engine", "2"}};
  const MetricLabels three = {{"engine", "3"}};
  registry.counter("vllm:x_total", "Help, {with} \"signs\"", two).add(1e-7);
  registry.counter("vllm:x_total", "Help", three).add(3e300);
  registry.histogram("seconds", "Help", bounds, two).observe(-0.5);
  registry.histogram("seconds", "Help", bounds, three);
  registry.gauge("nan", "Help", two).set(std::numeric_limits<double>::quiet_NaN());
  registry.gauge("nan", "Help", three).set(-std::numeric_limits<double>::quiet_NaN());
  registry.gauge("infinite", "Help", two).set(std::numeric_limits<double>::infinity());
  registry.gauge("infinite", "Help", three).set(-std::numeric_limits<double>::infinity());

  const auto read = read_from(registry.render());

  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(*read, registry.collect());
  EXPECT_EQ(to_text(*read), registry.render());
  EXPECT_TRUE(read_from("").value().empty());
}

std::string refusal(std::string_view text) {
  const auto read = read_from(text);
  if (read.ok()) return "accepted";
  EXPECT_EQ(read.error().kind, ErrorKind::Corrupt);
  return read.error().message;
}

TEST(Exposition, EverySeriesMustCarryTheRuledLabel) {
  EXPECT_EQ(refusal(counter_text("x_total{engine=\"3\"} 1\n")), "accepted");
  for (const char* line :
       {"x_total 1\n",
        "x_total{a=\"2\"} 1\n",
        "x_total{engine=\"0\"} 1\n",
        "x_total{engine=\"\"} 1\n",
        "x_total{engine=\"22\"} 1\n"}) {
    EXPECT_THAT(refusal(counter_text(line)), HasSubstr("another engine among x_total")) << line;
  }
  EXPECT_THAT(
      refusal(counter_text("x_total{engine=\"2\",engine=\"0\"} 1\n")), HasSubstr("two labels")
  );
}

TEST(Exposition, WhatComesTwiceIsRefused) {
  const std::string line = "x_total{engine=\"2\"} 1\n";

  EXPECT_THAT(refusal(counter_text(line + line)), HasSubstr("x_total{engine=\"2\"} twice"));
  EXPECT_THAT(refusal(counter_text(line) + counter_text("")), HasSubstr("in two places"));
  // The same series under the names of two families.
  EXPECT_THAT(
      refusal(
          head("y_sum", "gauge") + "y_sum{engine=\"2\"} 1\n" + head("y", "histogram") +
          "y_sum{engine=\"2\"} 1\n"
      ),
      HasSubstr("twice")
  );
}

TEST(Exposition, BrokenSamplesAreRefused) {
  for (const char* line : {
           "\n",
           "# a comment\n",
           "y_total{engine=\"2\"} 1\n",
           "x_total_sum{engine=\"2\"} 1\n",
           "x_total{engine=\"2\"} 1",
           "x_total{engine=\"2\"}\n",
           "x_total{engine=\"2\"} \n",
           "x_total{engine=\"2\"}  1\n",
           "x_total{engine=\"2\"} 1 1700000000\n",
           "x_total{engine=\"2\"} 0x10\n",
           "x_total{engine=\"2\"} nan\n",
           "x_total{engine=\"2\"} -nan\n",
           "x_total{engine=\"2\"} inf\n",
           "x_total{engine=\"2\"} --1\n",
           "x_total{engine=\"2\"} 1e\n",
           "x_total{engine=\"2\" 1\n",
           "x_total{engine=\"2\",} 1\n",
           "x_total{engine=\"2} 1\n",
           "x_total{engine=2} 1\n",
           "x_total{engine} 1\n",
           "x_total{} 1\n",
           "x_total{engine=\"2\",=\"a\"} 1\n",
           "x_total{engine=\"2\",1a=\"a\"} 1\n",
           "x_total{engine=\"2\",a=\"\\t\"} 1\n",
           "x_total{engine=\"2\",a=\"\\",
           "x_total{engine=\"2\",a=\"\xFF\"} 1\n",
       }) {
    EXPECT_NE(refusal(counter_text(line)), "accepted") << line;
  }
  std::string zero = counter_text("x_total{engine=\"2\",a=\"?\"} 1\n");
  zero[zero.find('?')] = '\0';
  EXPECT_THAT(refusal(zero), HasSubstr("zero byte"));
}

TEST(Exposition, BrokenHeadsAreRefused) {
  for (const char* text : {
           "x_total{engine=\"2\"} 1\n",
           "# HELP x_total Help\n",
           "# HELP x_total Help\nx_total{engine=\"2\"} 1\n",
           "# HELP x_total\n# TYPE x_total counter\n",
           "# HELP 1x Help\n# TYPE 1x counter\n",
           "# HELP  Help\n# TYPE  counter\n",
           "# HELP x_total Help\n# TYPE y_total counter\n",
           "# HELP x_total Help\n# TYPE x_total summary\n",
           "# HELP x_total Help\n# TYPE x_total counter",
           "# TYPE x_total counter\n",
       }) {
    EXPECT_NE(refusal(text), "accepted") << text;
  }
}

}  // namespace
}  // namespace pleiad
