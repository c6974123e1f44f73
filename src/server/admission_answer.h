#pragma once

#include <string>

#include "api/admission.h"
#include "base/clock.h"
#include "net/http_message.h"
#include "server/api_error.h"

// How admission looks over HTTP. Pure.
namespace pleiad::server {

// 429 for limits and full queues, 503 for deadlines, 400 and 403 for classes.
ApiError refusal_error(const api::AdmissionRefusal& refusal);

// OpenAI's x-ratelimit-{limit,remaining,reset}-{requests,tokens}, of the limits there are.
void add_rate_headers(const api::RateStates& rates, net::HttpHeaders& headers);

// "1m30.5s", "6ms", "0s": as those headers write times, rounded up to milliseconds.
std::string duration_text(Nanoseconds time);

}  // namespace pleiad::server
