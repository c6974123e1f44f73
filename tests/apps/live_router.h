#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "apps/route_instance.h"
#include "base/json.h"
#include "net/http_client.h"

namespace pleiad::apps {

inline constexpr const char* kTestSecret = "of the test";
inline constexpr const char* kTestAdminKey = "sk-admin";

// Settings of a router for the bundled model, with an admin key, in front of nobody.
inline RouteSettings router_settings() {
  RouteSettings settings{.port = 0};
  settings.text.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";
  settings.admin_keys = {kTestAdminKey};
  settings.router.secret = kTestSecret;
  settings.router.report_interval = std::chrono::milliseconds(5);
  return settings;
}

// A router on a free port, and its clients.
class LiveRouter {
 public:
  explicit LiveRouter(RouteSettings settings = router_settings())
      : instance_(RouteInstance::start(std::move(settings)).value()) {}

  RouteInstance& instance() { return *instance_; }
  [[nodiscard]] std::string url() const { return instance_->url(); }

  // With `key` as bearer, unless it is empty.
  [[nodiscard]] net::HttpResponse ask(
      const std::string& method,
      const std::string& path,
      const std::string& body = "",
      const std::string& key = ""
  ) const {
    net::HttpClientRequest request{
        .method = method,
        .url = net::parse_url(url() + path).value(),
        .headers = {{"Content-Type", "application/json"}},
        .body = body};
    if (!key.empty()) request.headers.add("Authorization", "Bearer " + key);
    return net::http_fetch(std::move(request)).value();
  }
  // As the operator.
  [[nodiscard]] net::HttpResponse
  admin(const std::string& method, const std::string& path, const std::string& body = "") const {
    return ask(method, path, body, kTestAdminKey);
  }
  // As a worker.
  [[nodiscard]] net::HttpResponse peer(const std::string& path, const std::string& body) const {
    return ask("POST", "/internal/" + path, body, kTestSecret);
  }
  // The list of workers; its entry of that URL, or null.
  [[nodiscard]] Json worker(const std::string& worker_url) const {
    const Json all = parse_json(admin("GET", "/workers").body).value();
    for (const Json& worker : *all.find("workers")->as_array()) {
      if (*worker.find("url")->as_string() == worker_url) return worker;
    }
    return {};
  }

 private:
  std::unique_ptr<RouteInstance> instance_;
};

}  // namespace pleiad::apps
