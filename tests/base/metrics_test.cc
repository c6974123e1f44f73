#include "base/metrics.h"

#include <array>
#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

TEST(Metrics, TheSameNameAndLabelsAreOneSeries) {
  MetricsRegistry registry;
  registry.counter("hits_total", "Hits", {{"route", "a"}}).add();
  registry.counter("hits_total", "Hits", {{"route", "a"}}).add(2);
  registry.counter("hits_total", "Hits", {{"route", "b"}}).add();

  EXPECT_EQ(
      registry.render(),
      "# HELP hits_total Hits\n# TYPE hits_total counter\n"
      "hits_total{route=\"a\"} 3\nhits_total{route=\"b\"} 1\n"
  );
}

TEST(Metrics, HistogramsAreCumulativeAndEndInInfinity) {
  MetricsRegistry registry;
  const std::array<double, 2> bounds = {0.5, 1};
  Histogram& histogram = registry.histogram("wait_seconds", "Wait", bounds);
  for (const double value : {0.25, 0.5, 0.75, 8.0})
    histogram.observe(value);

  EXPECT_EQ(histogram.count(), 4U);
  EXPECT_EQ(
      registry.render(),
      "# HELP wait_seconds Wait\n# TYPE wait_seconds histogram\n"
      "wait_seconds_bucket{le=\"0.5\"} 2\nwait_seconds_bucket{le=\"1\"} 3\n"
      "wait_seconds_bucket{le=\"+Inf\"} 4\nwait_seconds_sum 9.5\nwait_seconds_count 4\n"
  );
}

TEST(Metrics, LabelValuesAreEscaped) {
  MetricsRegistry registry;
  registry.gauge("g", "G", {{"name", "a\"b\\c\nd"}}).set(1.5);

  EXPECT_NE(registry.render().find("g{name=\"a\\\"b\\\\c\\nd\"} 1.5\n"), std::string::npos);
}

TEST(Metrics, SeriesWithALabelAreCollectedAlone) {
  MetricsRegistry registry;
  registry.counter("hits_total", "Hits", {{"engine", "1"}}).add();
  registry.counter("hits_total", "Hits", {{"route", "a"}}).add(2);
  registry.counter("http_total", "HTTP", {{"route", "engine"}}).add();

  const Exposition labelled = registry.collect_labelled("engine");

  EXPECT_EQ(
      to_text(labelled),
      "# HELP hits_total Hits\n# TYPE hits_total counter\nhits_total{engine=\"1\"} 1\n"
  );
  EXPECT_EQ(registry.collect().size(), 2U);
}

TEST(Metrics, ValuesThatAreNoNumbersAreWrittenAsPrometheusReadsThem) {
  MetricsRegistry registry;
  registry.gauge("g", "G", {{"of", "a"}}).set(-std::numeric_limits<double>::quiet_NaN());
  registry.gauge("g", "G", {{"of", "b"}}).set(-std::numeric_limits<double>::infinity());
  registry.gauge("g", "G", {{"of", "\xFF"}}).set(std::numeric_limits<double>::infinity());

  EXPECT_EQ(
      registry.render(),
      "# HELP g G\n# TYPE g gauge\ng{of=\"a\"} NaN\ng{of=\"b\"} -Inf\ng{of=\"\uFFFD\"} +Inf\n"
  );
}

TEST(MetricsDeathTest, OneNameHasOneType) {
  MetricsRegistry registry;
  registry.counter("x", "X");

  EXPECT_DEATH(registry.gauge("x", "X"), "two types");
}

}  // namespace
}  // namespace pleiad
