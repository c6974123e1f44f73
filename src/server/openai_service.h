#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/responder.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/completion_request.h"
#include "server/completion_session.h"
#include "server/event_inbox.h"
#include "server/prompt.h"

namespace pleiad::server {

struct ServiceOptions {
  std::vector<std::string> model_names;  // the first is told, all are answered to
  std::string version;
  std::vector<std::string> api_keys;  // none: no key is asked for
  api::Sampling default_sampling;
  std::int64_t preparing_max = 1024;  // requests parsed or tokenised at once; beyond: 429
  double stuck_seconds = 30.0;        // without a step while work waits: unhealthy
};

// What the service works with. All must outlive it.
struct ServiceParts {
  net::EventLoop* loop = nullptr;       // where requests arrive and answers leave
  net::EventLoop* text_loop = nullptr;  // another thread's loop: JSON, templates, tokenising
  api::Generator* generator = nullptr;
  const ModelText* text = nullptr;
  MetricsRegistry* metrics = nullptr;
  const Clock* clock = nullptr;
};

// The OpenAI API of one model, and vLLM's endpoints beside it. handle() and everything it leads to
// runs on the loop thread; only parsing and tokenising run on the text loop. Routes other than the
// health probes need a key when there are keys.
class OpenaiService {
 public:
  OpenaiService(ServiceParts parts, ServiceOptions options);
  OpenaiService(const OpenaiService&) = delete;
  OpenaiService& operator=(const OpenaiService&) = delete;
  // REQUIRES: neither loop runs, and the generator is gone: open sessions go unanswered.
  ~OpenaiService() = default;

  void handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder);

  // Answers /ready with 503 and refuses new work from now on; open requests go on.
  void begin_drain() { draining_ = true; }
  // Requests being prepared or answered, or whose choices have not all finished.
  [[nodiscard]] std::size_t open_sessions() const {
    return sessions_.size() + static_cast<std::size_t>(preparing_.load());
  }

 private:
  using Answer = net::HttpResponse;
  enum class Access { Public, Key };

  struct Route {
    std::string_view path;
    std::string_view method;
    Access access;
    // Exactly one of the two: answered at once, or on the text loop.
    Answer (OpenaiService::*answer)(const net::HttpRequest&);
    void (OpenaiService::*begin)(net::HttpRequest, std::unique_ptr<net::Responder>);
  };
  static const std::vector<Route>& routes();

  [[nodiscard]] const Route* find_route(const net::HttpRequest& request, ApiError& error) const;
  Answer models(const net::HttpRequest& request);
  Answer model(const net::HttpRequest& request);
  Answer health(const net::HttpRequest& request);
  Answer live(const net::HttpRequest& request);
  Answer ready(const net::HttpRequest& request);
  Answer version(const net::HttpRequest& request);
  Answer metrics(const net::HttpRequest& request);
  void chat(net::HttpRequest request, std::unique_ptr<net::Responder> responder);
  void completion(net::HttpRequest request, std::unique_ptr<net::Responder> responder);
  void tokenize(net::HttpRequest request, std::unique_ptr<net::Responder> responder);
  void detokenize(net::HttpRequest request, std::unique_ptr<net::Responder> responder);

  void begin_completion(
      Endpoint endpoint,
      net::HttpRequest request,
      std::unique_ptr<net::Responder> responder
  );
  // On the text loop: body to session parts, ready but for the responder.
  [[nodiscard]] std::variant<CompletionSession::Parts, ApiError>
  prepare(Endpoint endpoint, const net::HttpRequest& request);
  [[nodiscard]] std::variant<Json, ApiError> parse_body(const net::HttpRequest& request) const;
  [[nodiscard]] std::optional<ApiError>
  check_lengths(CompletionRequest& request, const std::vector<PreparedPrompt>& prompts) const;
  [[nodiscard]] std::optional<ApiError> check_model(const std::string& name) const;
  [[nodiscard]] std::variant<Answer, ApiError> tokenize_body(const net::HttpRequest& request) const;
  [[nodiscard]] std::variant<Answer, ApiError> detokenize_body(const net::HttpRequest& request
  ) const;
  void begin_text_work(
      net::HttpRequest request,
      std::unique_ptr<net::Responder> responder,
      std::variant<Answer, ApiError> (OpenaiService::*work)(const net::HttpRequest&) const
  );
  // False, with the refusal sent: too much is being prepared, or the service drains.
  bool enter_text_loop(net::Responder& responder);
  void open_session(CompletionSession::Parts parts);
  void on_event(InboxEvent& event);
  [[nodiscard]] Json model_json(const std::string& name) const;
  [[nodiscard]] RequestRules rules() const;
  void count(std::string_view route, int status);

  ServiceParts parts_;
  ServiceOptions options_;
  ApiKeys keys_;
  EventInbox inbox_;
  std::int64_t created_;   // unix seconds
  std::uint64_t id_salt_;  // makes ids of two runs differ
  std::atomic<std::uint64_t> next_id_{0};
  std::atomic<std::int64_t> preparing_{0};
  std::atomic<bool> draining_{false};
  std::unordered_map<CompletionSession*, std::unique_ptr<CompletionSession>> sessions_;
};

}  // namespace pleiad::server
