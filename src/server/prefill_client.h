#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "api/hand_over.h"
#include "base/clock.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace pleiad::server {

// Asks prefill workers over HTTP (server/peer_api.h), on a thread of its own, where the answers are
// taken as well. A worker's offer is kept until it says that it is another start by now. Any
// thread.
class PrefillClient final : public api::KvSource {
 public:
  struct Options {
    std::string secret;  // the cluster's
    Nanoseconds connect_timeout = std::chrono::seconds{2};
    // A worker that says nothing for so long is given up; one at work says so every second.
    Nanoseconds silence_max = std::chrono::seconds{5};
  };

  explicit PrefillClient(const Options& options);
  PrefillClient(const PrefillClient&) = delete;
  PrefillClient& operator=(const PrefillClient&) = delete;
  // REQUIRES: every call is destroyed.
  ~PrefillClient() override;

  std::unique_ptr<api::KvCall> ask(const std::string& url, api::KvInlet& inlet) override;

 private:
  class Ask;
  class Handle;

  const std::string authorization_;
  net::EventLoop loop_;
  net::HttpClient client_;
  std::map<std::string, std::string> offers_;  // by URL; the loop's
  std::thread thread_;
};

}  // namespace pleiad::server
