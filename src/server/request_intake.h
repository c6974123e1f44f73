#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/json.h"
#include "net/http_message.h"
#include "server/api_error.h"
#include "server/completion_request.h"
#include "server/prompt.h"

namespace pleiad::server {

struct IntakeOptions {
  std::vector<std::string> model_names;      // the first is told, all are answered to
  api::Sampling default_sampling;            // where the client says nothing
  std::int64_t output_tokens_max = 1 << 22;  // prompts x n x max_tokens of one request
};

// A completion request that may be submitted: ids in range, lengths fit, max_tokens set.
struct AcceptedCompletion {
  CompletionRequest request;
  std::vector<PreparedPrompt> prompts;
  bool output_bounded = true;  // the client said how long the output may be, or the endpoint does
};

// Turns the bodies of text requests into what the model takes: JSON, templates, tokenising. Time
// grows with the body: not for the event loop. Immutable; any thread.
class RequestIntake {
 public:
  // All must outlive the intake. REQUIRES: a model name.
  RequestIntake(
      const api::Generator& generator,
      const ModelText& text,
      const Clock& clock,
      IntakeOptions options
  );

  // What the request is refused with, or what it asks for.
  [[nodiscard]] std::variant<AcceptedCompletion, ApiError>
  completion(Endpoint endpoint, const net::HttpRequest& request) const;
  // A chat when the body has messages, else a completion.
  [[nodiscard]] std::variant<AcceptedCompletion, ApiError> completion_of_either(
      const net::HttpRequest& request
  ) const;
  // vLLM's /tokenize (a prompt, or messages) and /detokenize (tokens): the answer's body.
  [[nodiscard]] std::variant<Json, ApiError> tokenize(const net::HttpRequest& request) const;
  [[nodiscard]] std::variant<Json, ApiError> detokenize(const net::HttpRequest& request) const;

  // Why `name` cannot be served, if so. Empty names the served model.
  [[nodiscard]] std::optional<ApiError> check_model(const std::string& name) const;

 private:
  [[nodiscard]] std::variant<AcceptedCompletion, ApiError>
  accept(Endpoint endpoint, const Json& body) const;
  [[nodiscard]] std::variant<AcceptedCompletion, ApiError> read(Endpoint endpoint, const Json& body)
      const;
  [[nodiscard]] std::optional<ApiError> settle_lengths(AcceptedCompletion& completion) const;

  const api::Generator& generator_;
  const ModelText& text_;
  const Clock& clock_;
  IntakeOptions options_;
};

}  // namespace pleiad::server
