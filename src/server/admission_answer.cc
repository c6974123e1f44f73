#include "server/admission_answer.h"

#include <chrono>
#include <optional>
#include <string_view>

#include <fmt/core.h>

namespace pleiad::server {
namespace {

constexpr std::string_view kClassHeader = "x-priority";

void add(std::string_view what, const std::optional<api::RateState>& state, net::HttpHeaders& to) {
  if (!state) return;
  to.add(fmt::format("x-ratelimit-limit-{}", what), std::to_string(state->limit));
  to.add(fmt::format("x-ratelimit-remaining-{}", what), std::to_string(state->remaining));
  to.add(fmt::format("x-ratelimit-reset-{}", what), duration_text(state->whole_in));
}

ApiError rate_error(const api::AdmissionRefusal& refusal, std::string_view code) {
  return {
      .status = 429,
      .type = "rate_limit_error",
      .message = refusal.message,
      .code = std::string(code),
      .retry_after = refusal.retry_after,
      .hopeless = !refusal.retry_after.has_value(),
  };
}

}  // namespace

ApiError refusal_error(const api::AdmissionRefusal& refusal) {
  switch (refusal.reason) {
    case api::RefusalReason::RequestsPerMinute:
    case api::RefusalReason::TokensPerMinute:
      return rate_error(refusal, "rate_limit_exceeded");
    case api::RefusalReason::TooLarge:
      return rate_error(refusal, "request_too_large");
    case api::RefusalReason::QueueFull:
      return rate_error(refusal, "queue_full");
    case api::RefusalReason::Deadline:
      return {
          .status = 503,
          .type = "server_error",
          .message = refusal.message,
          .code = "overloaded",
          .retry_after = refusal.retry_after,
      };
    case api::RefusalReason::NoClass:
      return bad_parameter(kClassHeader, refusal.message);
    case api::RefusalReason::ClassDenied:
      return {
          .status = 403,
          .type = "permission_error",
          .message = refusal.message,
          .param = std::string(kClassHeader),
          .code = "priority_class_denied",
      };
  }
  return {};
}

void add_rate_headers(const api::RateStates& rates, net::HttpHeaders& headers) {
  add("requests", rates.requests, headers);
  add("tokens", rates.tokens, headers);
}

std::string duration_text(Nanoseconds time) {
  const auto whole_ms = std::chrono::ceil<std::chrono::milliseconds>(time).count();
  if (whole_ms <= 0) return "0s";
  if (whole_ms < 1000) return fmt::format("{}ms", whole_ms);
  const auto minutes = whole_ms / 60'000;
  const auto ms = whole_ms % 60'000;
  std::string seconds = fmt::format("{}", ms / 1000);
  if (ms % 1000 != 0) {
    seconds += fmt::format(".{:03}", ms % 1000);
    seconds.erase(seconds.find_last_not_of('0') + 1);
  }
  const std::string hours_and_minutes = minutes >= 60
                                            ? fmt::format("{}h{}m", minutes / 60, minutes % 60)
                                            : (minutes > 0 ? fmt::format("{}m", minutes) : "");
  return hours_and_minutes + seconds + "s";
}

}  // namespace pleiad::server
