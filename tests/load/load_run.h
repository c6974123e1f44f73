#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "tests/load/stream_client.h"

namespace pleiad::load_test {

struct LoadOptions {
  net::Url server;
  std::int64_t pid = 0;  // of the server
  std::size_t streams = 256;
  double seconds = 60.0;
  std::uint64_t seed = 1;
  std::uint64_t tales = 200;  // different requests
  std::uint64_t abort_one_in = 8;
};

struct LoadReport {
  std::size_t whole = 0;
  std::size_t aborted = 0;
  std::size_t compared = 0;   // whole answers to a tale that was answered before
  std::size_t differing = 0;  // of these, with another text
  std::vector<std::string> failures;
  std::int64_t tokens = 0;
  double seconds = 0.0;
  std::vector<double> first_token_ms;   // ascending
  std::int64_t resident_kib_early = 0;  // after a third of the time
  std::int64_t resident_kib_late = 0;   // when the last stream had ended
};

// Keeps `streams` chats going for `seconds`, then lets the last ones end. One thread: blocks in
// run().
class LoadRun {
 public:
  explicit LoadRun(const LoadOptions& options);
  LoadReport run();

 private:
  void begin_next(std::size_t client);
  void take(const StreamOutcome& outcome);

  LoadOptions options_;
  SystemClock clock_;
  net::EventLoop loop_;
  net::HttpClient http_;
  Random random_;
  std::vector<std::unique_ptr<StreamClient>> clients_;
  std::size_t running_ = 0;
  bool time_is_up_ = false;
  std::unordered_map<std::uint64_t, std::string> texts_;  // of tales answered before
  LoadReport report_;
};

}  // namespace pleiad::load_test
