#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "api/worker_report.h"
#include "base/clock.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "router/worker_table.h"

namespace pleiad::router {

// Asks workers for their reports again and again. Loop thread only.
class WorkerWatch {
 public:
  struct Options {
    std::string secret;
    Nanoseconds interval = std::chrono::milliseconds(200);  // from an answer to the next question
    Nanoseconds timeout = std::chrono::seconds(1);          // of a connection, and of an answer
  };
  // A report, or why there is none.
  using Handler = std::function<void(WorkerIndex worker, Result<api::WorkerReport> report)>;

  WorkerWatch(net::EventLoop& loop, Options options, Handler handler);
  WorkerWatch(const WorkerWatch&) = delete;
  WorkerWatch& operator=(const WorkerWatch&) = delete;

  // The first question goes out at once. Fails with InvalidInput when the URL is none.
  Result<void> watch(WorkerIndex worker, const std::string& url);
  void forget(WorkerIndex worker);

 private:
  struct Watched {
    net::Url url;
    net::HttpCall call;
    net::Timer timer;
    int status = 0;
    std::string body;
  };

  void ask(WorkerIndex worker);
  void on_end(WorkerIndex worker, Result<void> ended);

  net::EventLoop& loop_;
  Options options_;
  Handler handler_;
  net::HttpClient client_;
  std::unordered_map<WorkerIndex, std::unique_ptr<Watched>> watched_;
};

}  // namespace pleiad::router
