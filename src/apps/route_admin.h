#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/worker_registry.h"
#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/responder.h"
#include "router/routed_generator.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/request_intake.h"

namespace pleiad::apps {

// What an operator asks of a router that runs, under its admin key; without one there are no such
// routes:
//   GET    /workers            every worker: state, why, lease, load, report
//   POST   /workers            {"url"[, "role"]}: takes it in
//   DELETE /workers            {"url"}, or ?url=: what runs there goes on elsewhere
//   POST   /workers/drain      {"url"}: no new requests there; and undrain
//   POST   /route/explain      the body of a completion or chat: where it would go, and why;
//                              ?key= names the key whose sessions are meant
// Loop thread; explanations are tokenised on the text loop.
class RouteAdmin {
 public:
  // All must outlive it.
  struct Parts {
    net::EventLoop* loop = nullptr;
    net::EventLoop* text_loop = nullptr;
    router::RoutedGenerator* generator = nullptr;
    WorkerRegistry* registry = nullptr;
    const server::RequestIntake* intake = nullptr;
  };

  RouteAdmin(const Parts& parts, const std::vector<std::string>& admin_keys);

  // Whether a path is one of these routes.
  static bool owns(std::string_view path);
  // REQUIRES: owns(request.path).
  void handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder);

 private:
  [[nodiscard]] std::optional<server::ApiError> guard(const net::HttpRequest& request) const;
  [[nodiscard]] net::HttpResponse change_workers(const net::HttpRequest& request) const;
  void explain(net::HttpRequest request, std::unique_ptr<net::Responder> responder);

  Parts parts_;
  server::ApiKeys keys_;
};

}  // namespace pleiad::apps
