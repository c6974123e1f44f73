#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"

namespace pleiad::sim {

// What must not happen; the first that did. Empty: none.
class Verdict {
 public:
  void violated(std::string what) {
    if (what_.empty()) what_ = std::move(what);
  }
  [[nodiscard]] const std::string& what() const { return what_; }
  [[nodiscard]] bool good() const { return what_.empty(); }

 private:
  std::string what_;
};

// One request's client, who knows the right answer (stub_model.h): compares every event with it,
// and the end with what may have led to it.
class SimClient final : public api::GenerationSink {
 public:
  // What there may be reasons for, beside a whole answer.
  struct Circumstances {
    int attempts = 0;             // that the request was sent
    Nanoseconds waited{0};        // since it was accepted
    Nanoseconds wait_allowed{0};  // that it may have been without a worker in vain
  };

  // `verdict` must outlive the client.
  SimClient(api::RequestId id, api::GenerationRequest request, Verdict& verdict);

  void on_prompt_token(const api::TokenEvent& event) override;
  void on_token(const api::TokenEvent& event) override;
  void on_finish(const api::FinishEvent& event) override;

  [[nodiscard]] api::RequestId id() const { return id_; }
  [[nodiscard]] const api::GenerationRequest& request() const { return request_; }
  [[nodiscard]] const std::optional<api::FinishEvent>& finish() const { return finish_; }
  [[nodiscard]] std::int64_t output_tokens() const;
  // To be called once it has ended.
  void judge_end(const Circumstances& circumstances);

  bool cancelled = false;  // by the client
  bool early = false;      // its output is complete (Generator::finish_early)

 private:
  void violated(std::string_view what);
  void judge_whole(const api::FinishEvent& finish);
  // The next token of the right answer, and whether it ends it.
  [[nodiscard]] TokenId next() const;
  [[nodiscard]] bool ends_with(TokenId token) const;

  api::RequestId id_;
  api::GenerationRequest request_;
  Verdict& verdict_;
  std::vector<TokenId> tokens_;  // prompt and output
  std::int32_t scored_ = 1;      // prompt positions below this have been told
  std::optional<api::FinishEvent> finish_;
};

}  // namespace pleiad::sim
