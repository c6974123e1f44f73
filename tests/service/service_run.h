#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "apps/serve_instance.h"
#include "tests/service/client.h"
#include "tests/service/scenario.h"

namespace pleiad::service {

// One worker a model that does everything, and has seen nothing else: what it answers is right.
class References {
 public:
  // Blocks.
  std::vector<Answer> ask(const Scenario& scenario);

 private:
  struct One {
    std::unique_ptr<apps::ServeInstance> worker;
    std::unique_ptr<Client> client;
  };
  std::map<std::string, One> by_model_;
};

// What came of services.
struct ServiceReport {
  std::string violation;  // empty: none
  std::uint64_t requests = 0;
  std::uint64_t whole = 0;
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t hand_overs = 0;  // of the router's counts, as the next two
  std::uint64_t replays = 0;
  std::uint64_t prefill_losses = 0;
  std::array<std::array<std::uint64_t, kPhases>, kActions> happened{};  // troubles

  void add(const ServiceReport& other);
};

struct ServiceOptions {
  Broken broken = Broken::Nothing;  // what is wrong with every worker
  // With one request, and with what is to be let go.
  Nanoseconds patience = std::chrono::seconds(40);
};

// Runs a real service of real workers in this process: a router behind its server, workers behind
// theirs, clients who ask over HTTP; engines, hand-overs and everything between are the program's.
// Threads make their own order, so a seed repeats what is asked and what goes wrong, and where, but
// not every step between.
//
// Every answer must be the reference's, bit for bit, unless its client hung up (then what came is
// how that begins) or it lost the workers that it may lose. Then, with every worker back: nothing
// is held anywhere, probes are answered, and the router was healthy all the time.
ServiceReport
run_service(const Scenario& scenario, References& references, const ServiceOptions& options = {});

}  // namespace pleiad::service
