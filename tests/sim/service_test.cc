// Also tests: audit.cc, clientele.cc
#include "sim/service.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "router/admission_rules.h"

namespace pleiad::sim {
namespace {

using std::chrono::seconds;

// The router believes what a worker last said until so many reports are missed.
TEST(Service, IsIdleOnceTheRouterKnowsEveryProcess) {
  set_log_level(LogLevel::Error);
  ChaosSetting setting{.hosts = 2, .rules = {router::AdmissionRules{}}};
  setting.scheduler.pages = 16;
  Service service(setting, {});
  service.start();
  service.run_until_idle(seconds(10));
  const Nanoseconds killed = service.timeline().now();
  service.network().kill(1);
  service.network().start(1);
  service.run_until_idle(seconds(20));
  EXPECT_GT(service.timeline().now(), killed);
  EXPECT_LT(service.timeline().now(), seconds(20));
  for (const router::Worker& worker : service.core().table().workers()) {
    const SimHost& host = service.network().host(service.network().host_of(worker.url));
    EXPECT_EQ(worker.report.instance, host.worker->instance());
  }
  service.check_end();
  EXPECT_EQ(service.verdict().what(), "");
  set_log_level(LogLevel::Info);
}

}  // namespace
}  // namespace pleiad::sim
