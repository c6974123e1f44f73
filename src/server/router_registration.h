#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace pleiad::server {

// Tells routers that this worker is there: again and again, so that a router that was started anew
// learns of it too, and once more when it goes. Each router is told on its own; one that does not
// answer keeps nothing from the others.
//   POST /internal/register    {"url", "lease_seconds"}
//   POST /internal/deregister  {"url"}
// both under the cluster's secret. Loop thread.
class RouterRegistration {
 public:
  struct Options {
    std::vector<std::string> routers;  // "http://host:port"
    std::string url;                   // of this worker, as routers reach it
    std::string secret;                // the cluster's
    std::chrono::seconds lease{10};
    Nanoseconds interval = std::chrono::seconds(3);  // from an answer to the next word
    Nanoseconds retry = std::chrono::seconds(1);     // the same after a failure
    Nanoseconds timeout = std::chrono::seconds(1);   // of a connection, and of an answer
  };

  // Fails with InvalidInput, naming the URL that is none. `loop` must outlive the registration.
  static Result<std::unique_ptr<RouterRegistration>> create(net::EventLoop& loop, Options options);
  RouterRegistration(const RouterRegistration&) = delete;
  RouterRegistration& operator=(const RouterRegistration&) = delete;

  // From now on.
  void start();
  // Says good-bye; `on_left` runs once every router has heard it, or did not answer in time.
  void leave(net::Task on_left);

 private:
  struct Router {
    net::Url register_url;
    net::Url deregister_url;
    std::string name;
    net::HttpCall call;
    net::Timer timer;
    int status = 0;
    std::string answer;
    bool told = false;         // once at least
    std::string last_failure;  // already logged; empty: it took the last word
  };

  RouterRegistration(net::EventLoop& loop, Options options);
  void tell(Router& router);
  void on_told(Router& router, const Result<void>& ended);
  [[nodiscard]] net::HttpCall send(
      Router& router,
      const net::Url& url,
      std::string body,
      net::UniqueFunction<void(Result<void>)> on_end
  );
  void on_gone();

  net::EventLoop& loop_;
  Options options_;
  net::HttpClient client_;
  std::vector<std::unique_ptr<Router>> routers_;
  net::Task on_left_;
  std::size_t to_leave_ = 0;  // routers that have not heard good-bye
};

}  // namespace pleiad::server
