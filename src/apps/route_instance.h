#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "apps/model_text_loader.h"
#include "apps/policy_file_watch.h"
#include "apps/route_admin.h"
#include "apps/worker_registry.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_server.h"
#include "router/loop_admission.h"
#include "router/routed_generator.h"
#include "server/openai_service.h"
#include "server/request_intake.h"

namespace pleiad::apps {

struct RouteSettings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  bool allow_unauthenticated = false;  // beyond loopback
  std::vector<std::string> api_keys;
  std::vector<std::string> admin_keys;  // none: no admin routes
  std::string policy_file;              // empty: none
  Nanoseconds policy_interval = std::chrono::seconds(1);
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
  // Reads the policy file anew, if there is one.
  void reload_policy();

 private:
  explicit RouteInstance(RouteSettings settings) : settings_(std::move(settings)) {}
  Result<void> open();
  Result<void> add_workers();
  Result<void> open_service();
  Result<void> read_policy();
  Result<void> apply(const router::RouterPolicy& policy);
  Result<void> listen();
  void handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder);

  RouteSettings settings_;
  SystemClock clock_;
  MetricsRegistry metrics_;
  server::ModelText text_;
  net::EventLoop loop_;
  net::EventLoop text_loop_;
  std::unique_ptr<router::RoutedGenerator> generator_;
  std::unique_ptr<router::LoopAdmission> gate_;
  std::unique_ptr<WorkerRegistry> registry_;
  std::unique_ptr<server::OpenaiService> service_;
  std::unique_ptr<server::RequestIntake> intake_;  // of questions to admin_
  std::unique_ptr<RouteAdmin> admin_;
  std::unique_ptr<PolicyFileWatch> policy_;  // null: no file
  bool has_keys_ = false;                    // of clients, in force
  std::unique_ptr<net::HttpServer> server_;
  std::thread loop_thread_;
  std::thread text_thread_;
};

}  // namespace pleiad::apps
