#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "api/generation.h"
#include "api/hand_over.h"
#include "base/token.h"
#include "tests/service/gate.h"

// A worker's generator and source of keys and values, with a gate around them: what crosses it is
// told before it passes, so that a test can stop or end the worker at exactly that moment.
namespace pleiad::service {

// What a worker is about to do for a request.
enum class Phase {
  Queued,   // take it in
  Prefill,  // compute its prompt for another worker
  Send,     // send keys and values
  Receive,  // take keys and values in
  Decode,   // tell a token
};
inline constexpr std::size_t kPhases = 5;
const char* to_string(Phase phase);

// What is wrong with a worker, for tests that the checks can fail.
enum class Broken {
  Nothing,
  ForgetsCancels,  // those of prompts that it computes for others
  ResumesWrongly,  // goes on from another token than the last one
  ForgetsEnds,     // of some requests
  TellsTwice,      // some tokens
  RoundsScores,
};

// What a gate does before something happens.
enum class GateMove { Pass, Shut, Die };

// How a gate hears of the requests that pass it.
struct GateWatch {
  // The number of the request of that prompt, or what is nearly it; none: not a client's.
  std::function<std::optional<std::size_t>(std::span<const TokenId> prompt)> number_of;
  // Just before it happens, on the thread that does it.
  std::function<GateMove(Phase phase, std::size_t request)> on_phase;
};

class GatedGenerator final : public api::Generator {
 public:
  // All must outlive it, and every request must have finished before it goes.
  GatedGenerator(api::Generator& real, Gate& gate, const GateWatch& watch, Broken broken);
  ~GatedGenerator() override;

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId request) override;
  void finish_early(api::RequestId request) override { real_.finish_early(request); }
  [[nodiscard]] api::GeneratorStatus status() const override { return real_.status(); }
  [[nodiscard]] api::GeneratorLimits limits() const override { return real_.limits(); }
  void reset_prefix_cache() override { real_.reset_prefix_cache(); }

 private:
  class Passage;

  api::Generator& real_;
  Gate& gate_;
  const GateWatch& watch_;
  const Broken broken_;
  std::mutex mutex_;  // guards passages_
  std::deque<std::unique_ptr<Passage>> passages_;
};

class GatedSource final : public api::KvSource {
 public:
  GatedSource(api::KvSource& real, Gate& gate, const GateWatch& watch)
      : real_(real), gate_(gate), watch_(watch) {}
  std::unique_ptr<api::KvCall> ask(const std::string& url, api::KvInlet& inlet) override;

 private:
  class Passage;

  api::KvSource& real_;
  Gate& gate_;
  const GateWatch& watch_;
};

}  // namespace pleiad::service
