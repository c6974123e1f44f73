#pragma once

#include <vector>

#include "api/admission.h"
#include "api/generation.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/token.h"
#include "sim/session.h"

namespace pleiad::sim {

// Draws who comes to the gate, and with what. Prompts share prefixes, of one page or several.
class Visitors {
 public:
  struct Options {
    bool gate_open = true;  // nobody asks for classes
    bool poison = false;    // a few prompts kill whoever computes them
    Nanoseconds until{0};   // whoever is refused comes again before this
  };

  // `random` must outlive it.
  Visitors(Random& random, const Options& options);

  SimVisit draw();
  // Of a visitor who harms nobody.
  api::GenerationRequest draw_request();

 private:
  [[nodiscard]] TokenId draw_token();
  // Without its tokens.
  api::Arrival draw_arrival();

  Random& random_;
  const Options options_;
  std::vector<std::vector<TokenId>> prefixes_;
};

}  // namespace pleiad::sim
