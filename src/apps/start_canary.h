#pragma once

#include <cstdint>
#include <vector>

#include "api/generation.h"
#include "base/result.h"

namespace pleiad::apps {

// The known answer a worker gives itself before it says that it is ready: a few greedy tokens after
// a fixed prompt, twice. Weights that were read wrong, a device that computes differently from one
// step to the next, and scores that are no numbers are found here and not by the first client.
class StartCanary {
 public:
  // `generator` must outlive the canary and be idle.
  explicit StartCanary(api::Generator& generator);

  // Blocks until both answers came, and logs while it waits: a generator that never answers is
  // never ready. Fails with Internal when an answer is broken or the two differ in a token or in a
  // bit of a score, and with the generator's own error when it takes no request. Any thread but the
  // generator's.
  Result<void> run();

 private:
  Result<std::vector<api::TokenLogprob>> answer();

  api::Generator& generator_;
  api::GeneratorLimits limits_;
  api::GenerationRequest question_;
};

}  // namespace pleiad::apps
