#include "server/server_info.h"

#include <gtest/gtest.h>

#include "tests/server/fake_generator.h"

namespace pleiad::server {
namespace {

class Info : public testing::Test {
 protected:
  FakeClock clock_;
  MetricsRegistry registry_;
  FakeGenerator generator_{[](const api::GenerationRequest&) { return Script{}; }};
  ServerInfo info_{generator_, registry_, clock_, {.model_names = {"a", "b"}, .version = "9"}};
};

TEST_F(Info, ListsEveryNameOfTheModelWithItsRoot) {
  const Json list = json(info_.models().body);

  EXPECT_EQ(at(list, {"data"}).as_array()->size(), 2U);
  EXPECT_EQ(at(list, {"data", "1", "root"}), Json("a"));
  EXPECT_EQ(json(info_.model("b").body), at(list, {"data", "1"}));
}

TEST_F(Info, StampsModelsWithTheStartOfTheServer) {
  clock_.advance(std::chrono::seconds{50});

  EXPECT_EQ(at(json(info_.model("a").body), {"created"}), Json(1'700'000'000));
}

TEST_F(Info, IsUnhealthyFromTheStuckLimitOn) {
  generator_.set_status({.accepting = true, .seconds_since_progress = 29.9});
  EXPECT_EQ(info_.health().status, 200);

  generator_.set_status({.accepting = true, .seconds_since_progress = 30.0});
  EXPECT_EQ(info_.health().status, 503);
  EXPECT_EQ(at(json(info_.health().body), {"seconds_since_progress"}), Json(30.0));
  EXPECT_EQ(info_.live().status, 200);
}

TEST_F(Info, TellsHowBusyItIs) {
  generator_.set_status({.accepting = true, .running = 3, .waiting = 4});

  const Json body = json(info_.ready(false).body);

  EXPECT_EQ(body, json(R"({"status": "ready", "running": 3, "waiting": 4})"));
  EXPECT_EQ(info_.ready(true).status, 503);
}

TEST_F(Info, RendersTheMetrics) {
  registry_.counter("x_total", "help").add();

  EXPECT_NE(info_.metrics().body.find("x_total 1"), std::string::npos);
  EXPECT_EQ(at(json(info_.version().body), {"version"}), Json("9"));
}

TEST_F(Info, ShowsMetricsOfOtherProcessesAmongItsOwn) {
  registry_.counter("x_total", "help", {{"engine", "0"}}).add();
  registry_.counter("y_total", "help").add();
  MetricsRegistry other;
  other.counter("x_total", "help", {{"engine", "1"}}).add(2);
  const ServerInfo
      info(generator_, registry_, clock_, {.model_names = {"a"}, .other_metrics = [&] {
                                             return std::vector<Exposition>{{}, other.collect()};
                                           }});

  const std::string text = info.metrics().body;

  EXPECT_NE(
      text.find("x_total{engine=\"0\"} 1\nx_total{engine=\"1\"} 2\n# HELP y_total"), text.npos
  );
}

}  // namespace
}  // namespace pleiad::server
