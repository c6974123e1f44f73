#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "router/policy_file.h"

namespace pleiad::apps {

// A --policy-file whose changes are put in force while the router runs: those that a look at it
// every second shows (a file that was replaced, or a link that leads elsewhere, too), and at
// reload(). What cannot be read is told in the log and in pleiad_router_policy_reloads_total, and
// the rules before it stay in force. Reads a small file on the loop's thread. Loop thread, or
// before the loop runs.
class PolicyFileWatch {
 public:
  struct Options {
    std::string path;
    router::RouterPolicy defaults;  // what the file leaves out
    Nanoseconds interval = std::chrono::seconds(1);
  };
  // Puts rules in force, or says why they cannot be.
  using Apply = std::function<Result<void>(const router::RouterPolicy& policy)>;

  // All must outlive it.
  PolicyFileWatch(net::EventLoop& loop, MetricsRegistry& metrics, Options options, Apply apply);
  PolicyFileWatch(const PolicyFileWatch&) = delete;
  PolicyFileWatch& operator=(const PolicyFileWatch&) = delete;

  // Reads the file for the first time and looks at it from now on. Fails with what is wrong, naming
  // the file.
  Result<void> start();
  // Reads it anew, changed or not.
  void reload();

 private:
  // What tells one state of the file from another.
  struct Stamp {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = -1;  // no file
    std::int64_t changed_ns = 0;

    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  [[nodiscard]] Stamp stamp() const;
  Result<void> read_and_apply();
  void look();

  net::EventLoop& loop_;
  MetricsRegistry& metrics_;
  Options options_;
  Apply apply_;
  Stamp seen_;
  net::Timer timer_;
};

}  // namespace pleiad::apps
