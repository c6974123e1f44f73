#include "sim/visitors.h"

#include <utility>

#include <fmt/core.h>

#include "sim/chaos_setting.h"
#include "sim/stub_model.h"

namespace pleiad::sim {

Visitors::Visitors(Random& random, const Options& options) : random_(random), options_(options) {
  for (int i = 0; i < 4; ++i) {
    std::vector<TokenId> prefix(random_.below(250));
    for (TokenId& token : prefix) {
      token = draw_token();
    }
    prefixes_.push_back(std::move(prefix));
  }
}

TokenId Visitors::draw_token() {
  return static_cast<TokenId>(1 + random_.below(kStubVocabulary - 1));
}

api::GenerationRequest Visitors::draw_request() {
  api::GenerationRequest request;
  request.prompt = prefixes_[random_.below(prefixes_.size())];
  for (std::uint64_t left = 1 + random_.below(100); left > 0; --left) {
    request.prompt.push_back(draw_token());
  }
  request.max_tokens = static_cast<std::int32_t>(random_.between(1, 40));
  request.ignore_eos = random_.below(4) == 0;
  request.priority = static_cast<std::int32_t>(random_.below(2));
  if (random_.below(3) == 0) request.session = fmt::format("session {}", random_.below(3));
  if (random_.below(8) == 0) request.prompt_top_logprobs = 0;
  return request;
}

api::Arrival Visitors::draw_arrival() {
  api::Arrival arrival{.key = key_name(random_.below(kKeys))};
  // One more than there are: names that nobody knows are asked for too.
  if (random_.below(3) == 0) arrival.priority_class = class_name(random_.below(kClasses + 1));
  if (random_.below(3) == 0) arrival.priority = static_cast<std::int32_t>(random_.below(5));
  if (random_.below(3) == 0) {
    arrival.patience = std::chrono::milliseconds(random_.between(1, 4000));
  }
  arrival.output_bounded = random_.below(3) != 0;
  return arrival;
}

SimVisit Visitors::draw() {
  SimVisit visit{.request = draw_request(), .until = options_.until};
  if (options_.poison && random_.below(40) == 0) visit.request.prompt[0] = kPoison;
  if (!options_.gate_open) visit.arrival = draw_arrival();
  if (random_.below(8) == 0) visit.choices = static_cast<int>(random_.between(2, 3));
  if (random_.below(2) == 0) visit.tries = 3;
  return visit;
}

}  // namespace pleiad::sim
