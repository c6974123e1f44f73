// Also tests: network_transfers.cc
#include "sim/network.h"

#include <cstdint>
#include <optional>
#include <string>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "router/router_core.h"
#include "sim/stub_model.h"
#include "sim/timeline.h"

namespace pleiad::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Client final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {}
  void on_finish(const api::FinishEvent& event) override { finish = event; }

  std::optional<api::FinishEvent> finish;
};

// A router and three workers that have room for two requests each.
class SmallService {
 public:
  SmallService(std::uint64_t seed, const NetworkOptions& options)
      : network(timeline, core, seed, options), core(timeline, network, {.seed = seed}) {
    for (std::size_t i = 0; i < 3; ++i) {
      const std::string url = fmt::format("http://worker{}", i);
      const std::size_t host = network.add_host(
          url,
          {.identity = {.version = "1", .model = "stub", .page_tokens = 64},
           .scheduler = {.pages = 20, .running_max = 1, .waiting_max = 1},
           .cost = {.fixed = milliseconds(20)}}
      );
      network.start(host);
      network.watch(core.add_worker(url).value(), host);
    }
    tick();
    run_until(seconds(1));
  }

  void run_until(Nanoseconds time) {
    while (timeline.now() < time) {
      timeline.step();
    }
  }

  Timeline timeline;
  SimNetwork network;
  router::RouterCore core;

 private:
  void tick() {
    core.on_tick();
    timeline.after(milliseconds(100), [this] { tick(); });
  }
};

class Network : public ::testing::Test {
 protected:
  Network() { set_log_level(LogLevel::Error); }
  ~Network() override { set_log_level(LogLevel::Info); }
};

// A worker refuses what was sent a second time while it still has the first, which then kills it.
TEST_F(Network, APromptKillsUntoldOnlyBesideItsSecondCopy) {
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SmallService service(seed, {.delay_max = milliseconds(2), .resend_chance = 0.6});
    int told = 0;
    int killed = 0;
    service.network.on_poisoned = [&](api::RequestId) { ++told; };
    service.network.on_start = [&](std::size_t) { ++killed; };
    Client client;
    service.core.submit(api::RequestId(1), {.prompt = {kPoison, 1, 2}, .max_tokens = 5}, client);
    service.run_until(seconds(10));
    ASSERT_TRUE(client.finish.has_value()) << "seed " << seed;
    EXPECT_EQ(client.finish->reason, api::FinishReason::Error) << "seed " << seed;
    EXPECT_LE(told, 2) << "seed " << seed;
    if (killed > 2) ++refused;
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace pleiad::sim
