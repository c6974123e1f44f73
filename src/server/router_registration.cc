#include "server/router_registration.h"

#include <cstdint>
#include <utility>

#include <fmt/core.h>

#include "base/json.h"
#include "base/log.h"

namespace pleiad::server {
namespace {

constexpr std::size_t kAnswerBytesMax = std::size_t{64} << 10U;

// Why the router did not take the word; empty: it did.
std::string failure_of(int status, const std::string& body, const Result<void>& ended) {
  if (!ended.ok()) return ended.error().message;
  if (status >= 200 && status < 300) return "";
  if (status == 401) return "it knows another secret";
  const auto json = parse_json(body);
  const Json* error = json.ok() ? json->find("error") : nullptr;
  const Json* message = error == nullptr ? nullptr : error->find("message");
  const std::string* text = message == nullptr ? nullptr : message->as_string();
  return text == nullptr ? fmt::format("status {}", status) : *text;
}

}  // namespace

Result<std::unique_ptr<RouterRegistration>>
RouterRegistration::create(net::EventLoop& loop, Options options) {
  auto out = std::unique_ptr<RouterRegistration>(new RouterRegistration(loop, std::move(options)));
  for (const std::string& name : out->options_.routers) {
    auto parsed = net::parse_url(name);
    if (!parsed.ok()) return with_context(std::move(parsed).error(), name);
    const net::Url& url = *parsed;
    if (url.target != "/") {
      return invalid_input("{} names a path; a router is http://host:port", name);
    }
    auto router = std::make_unique<Router>();
    router->name = name;
    router->register_url = url;
    router->register_url.target = "/internal/register";
    router->deregister_url = url;
    router->deregister_url.target = "/internal/deregister";
    out->routers_.push_back(std::move(router));
  }
  return out;
}

RouterRegistration::RouterRegistration(net::EventLoop& loop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      client_(
          loop,
          {.connect_timeout = options_.timeout,
           .head_timeout = options_.timeout,
           .idle_timeout = options_.timeout,
           .body_bytes_max = kAnswerBytesMax,
           .idle_connections_max = 1}
      ) {}

void RouterRegistration::start() {
  for (const auto& router : routers_) {
    tell(*router);
  }
}

net::HttpCall RouterRegistration::send(
    Router& router,
    const net::Url& url,
    std::string body,
    net::UniqueFunction<void(Result<void>)> on_end
) {
  router.status = 0;
  router.answer.clear();
  return client_.send(
      {.method = "POST",
       .url = url,
       .headers =
           {{"Authorization", "Bearer " + options_.secret}, {"Content-Type", "application/json"}},
       .body = std::move(body),
       .replayable = true},
      {.on_head = [&router](const net::HttpResponseHead& head) { router.status = head.status; },
       .on_body = [&router](std::string_view bytes) { router.answer.append(bytes); },
       .on_end = std::move(on_end)}
  );
}

void RouterRegistration::tell(Router& router) {
  Json body;
  body.set("url", options_.url);
  body.set("lease_seconds", std::int64_t{options_.lease.count()});
  router.call =
      send(router, router.register_url, body.dump(), [this, &router](const Result<void>& ended) {
        on_told(router, ended);
      });
}

void RouterRegistration::on_told(Router& router, const Result<void>& ended) {
  const std::string failure = failure_of(router.status, router.answer, ended);
  const bool changed = !router.told || failure != router.last_failure;
  router.told = true;
  router.last_failure = failure;
  if (changed && failure.empty()) {
    PLEIAD_LOG(Info, "registered with router {} as {}", router.name, options_.url);
  }
  if (changed && !failure.empty()) {
    PLEIAD_LOG(Warning, "router {} did not register this worker: {}", router.name, failure);
  }
  router.timer = loop_.after(failure.empty() ? options_.interval : options_.retry, [this, &router] {
    tell(router);
  });
}

void RouterRegistration::leave(net::Task on_left) {
  on_left_ = std::move(on_left);
  to_leave_ = routers_.size();
  Json body;
  body.set("url", options_.url);
  for (const auto& router : routers_) {
    router->timer.cancel();
    router->call = send(*router, router->deregister_url, body.dump(), [this](const Result<void>&) {
      on_gone();
    });
  }
  if (to_leave_ == 0) loop_.post(std::exchange(on_left_, {}));
}

void RouterRegistration::on_gone() {
  if (--to_leave_ == 0) loop_.post(std::exchange(on_left_, {}));
}

}  // namespace pleiad::server
