#pragma once

#include <cstdint>

#include "base/token.h"

namespace pleiad::model {

// How a row's token is drawn by a model that draws (Model::draws()). Rules in order: temperature,
// min_p, top_k, top_p, draw; as of api/sampling.h, whose other rules are not for these.
struct Draw {
  bool wanted = false;  // else the row's logits are
  float temperature = 0.0F;
  float top_p = 1.0F;
  float min_p = 0.0F;
  std::int32_t top_k = 0;
  double uniform = 0.0;  // [0, 1): the random number of this draw
};

struct Drawn {
  bool done = false;  // when not, the row's logits are there instead
  TokenId token = 0;
  float logit = 0.0F;     // of the token
  double log_mass = 0.0;  // logarithm of the sum of exponentials of the row's logits
};

}  // namespace pleiad::model
