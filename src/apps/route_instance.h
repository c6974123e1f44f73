#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "apps/model_text_loader.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_server.h"
#include "router/routed_generator.h"
#include "server/openai_service.h"

namespace pleiad::apps {

struct RouteSettings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  bool allow_unauthenticated = false;  // beyond loopback
  std::vector<std::string> api_keys;
  std::vector<std::string> served_names;  // empty: the folder's name
  bool ignore_generation_config = false;
  ModelTextSettings text;            // of the model that the workers serve
  std::vector<std::string> workers;  // "http://host:port", of any role
  std::vector<std::string> prefill_workers;
  std::vector<std::string> decode_workers;
  router::RouterOptions router;
};

// A router: the OpenAI API of a worker, in front of many. It speaks text with clients and tokens
// with workers. One thread starts, drains and destroys it.
class RouteInstance {
 public:
  // Fails with what is wrong: flag or file, value, way out. Workers may come later.
  static Result<std::unique_ptr<RouteInstance>> start(RouteSettings settings);

  RouteInstance(const RouteInstance&) = delete;
  RouteInstance& operator=(const RouteInstance&) = delete;
  // Cuts what is still open.
  ~RouteInstance();

  [[nodiscard]] std::string url() const;
  // Takes no new requests; `on_drained` runs on the loop's thread when the last answer is sent.
  void drain(net::Task on_drained);

 private:
  explicit RouteInstance(RouteSettings settings) : settings_(std::move(settings)) {}
  Result<void> open();

  RouteSettings settings_;
  SystemClock clock_;
  MetricsRegistry metrics_;
  server::ModelText text_;
  net::EventLoop loop_;
  net::EventLoop text_loop_;
  std::unique_ptr<router::RoutedGenerator> generator_;
  std::unique_ptr<server::OpenaiService> service_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread loop_thread_;
  std::thread text_thread_;
};

}  // namespace pleiad::apps
