#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "api/admission.h"
#include "api/generation.h"
#include "base/clock.h"
#include "base/exposition.h"
#include "base/json.h"
#include "base/metrics.h"
#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/responder.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/client_wishes.h"
#include "server/completion_session.h"
#include "server/event_inbox.h"
#include "server/prompt.h"
#include "server/request_intake.h"
#include "server/server_info.h"

namespace pleiad::server {

struct ServiceOptions {
  std::vector<std::string> model_names;  // the first is told, all are answered to
  std::string version;
  std::vector<std::string> api_keys;  // none: no key is asked for
  api::Sampling default_sampling;
  // Requests parsed or tokenised at once, and the bytes of their bodies; beyond: 429.
  std::int64_t preparing_max = 1024;
  std::int64_t preparing_bytes_max = std::int64_t{256} << 20U;
  // What GET /ep answers: where experts stand and how they are used. Empty: there is no such route.
  std::function<Json()> ep_report;
  // Metrics of other processes, which GET /metrics shows among the registry's own. May be empty.
  std::function<std::vector<Exposition>()> other_metrics;
  // Why no new requests are taken, for GET /ready; empty: they are, or nobody knows. May be null.
  // Any thread.
  std::function<std::string()> why_not_ready;
  double stuck_seconds = 30.0;  // without a step while work waits: unhealthy
  // Silent streams get a comment this often, so that proxies keep them open; 0: never.
  Nanoseconds keep_alive = std::chrono::seconds(10);
};

// What the service works with. All must outlive it.
struct ServiceParts {
  net::EventLoop* loop = nullptr;       // where requests arrive and answers leave
  net::EventLoop* text_loop = nullptr;  // another thread's loop: JSON, templates, tokenising
  api::Generator* generator = nullptr;
  const ModelText* text = nullptr;
  MetricsRegistry* metrics = nullptr;
  const Clock* clock = nullptr;
  api::AdmissionGate* gate = nullptr;  // null: every request may start at once
};

// The OpenAI API of one model, and vLLM's endpoints beside it: routes, keys, and the sessions under
// way. handle() and everything it leads to runs on the loop thread; only parsing and tokenising run
// on the text loop. Routes other than the health probes need a key when there are keys.
class OpenaiService {
 public:
  OpenaiService(ServiceParts parts, ServiceOptions options);
  OpenaiService(const OpenaiService&) = delete;
  OpenaiService& operator=(const OpenaiService&) = delete;
  // REQUIRES: neither loop runs, and the generator is gone: open sessions go unanswered.
  ~OpenaiService() = default;

  void handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder);

  // Other keys from now on. Loop thread, or before handle().
  void set_keys(ApiKeys keys) { keys_ = std::move(keys); }
  // Answers /ready with 503 and refuses new work from now on; open requests go on. Any thread.
  void begin_drain() { draining_ = true; }
  // Requests being prepared or answered, or whose choices have not all finished. Loop thread.
  [[nodiscard]] std::size_t open_sessions() const {
    return sessions_.size() + static_cast<std::size_t>(preparing_.load());
  }

 private:
  enum class Access { Public, Key };

  // A request on its way to its answer.
  struct Call {
    net::HttpRequest request;
    std::unique_ptr<net::Responder> responder;
    std::string_view route;
    std::uint64_t number = 0;  // of the request, in this process
    std::string request_id;    // told as x-request-id
    std::string key;           // name of the key that opened
  };

  struct Route {
    std::string_view path;
    std::string_view method;
    Access access;
    void (OpenaiService::*take)(Call call);
  };

  // A request that may come in.
  struct Admitted {
    const Route* route = nullptr;
    std::string key;
  };

  static const std::vector<Route>& routes();
  static const Route* route_of(std::string_view path);

  [[nodiscard]] std::variant<Admitted, ApiError> admit(const net::HttpRequest& request) const;
  void take_models(Call call);
  void take_model(Call call);
  void take_live(Call call);
  void take_health(Call call);
  void take_ready(Call call);
  void take_version(Call call);
  void take_ep(Call call);
  void take_metrics(Call call);
  void take_chat(Call call);
  void take_completion(Call call);
  void take_tokenize(Call call);
  void take_detokenize(Call call);

  void answer(const Call& call, net::HttpResponse response) const;
  void refuse(const Call& call, const ApiError& error) const;
  // Runs `work` on the text loop, or refuses: too much is being prepared, or the service drains.
  void prepare(Call call, net::UniqueFunction<void(Call call)> work);
  void begin_completion(Endpoint endpoint, Call call);
  void begin_text_work(
      Call call,
      std::variant<Json, ApiError> (RequestIntake::*work)(const net::HttpRequest&) const
  );
  void complete(Endpoint endpoint, Call call);
  [[nodiscard]] CompletionSession::Parts
  session_parts(Endpoint endpoint, AcceptedCompletion accepted, Call call);
  void open_session(CompletionSession::Parts parts);
  void on_event(InboxEvent& event);
  void close_if_done(CompletionSession& session);
  void count(std::string_view route, int status) const;

  ServiceParts parts_;
  ServiceOptions options_;
  ApiKeys keys_;
  ServerInfo info_;
  RequestIntake intake_;
  EventInbox inbox_;
  std::uint64_t salt_;  // makes ids and seeds of two runs differ
  std::uint64_t next_number_ = 0;
  std::atomic<std::int64_t> preparing_{0};
  std::atomic<std::int64_t> preparing_bytes_{0};
  std::atomic<bool> draining_{false};
  std::unordered_map<CompletionSession*, std::unique_ptr<CompletionSession>> sessions_;
};

}  // namespace pleiad::server
