#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "api/generation.h"
#include "tests/server/support.h"

namespace pleiad::server {

// What the fake generator answers to one request.
struct Script {
  std::vector<TokenId> tokens;
  api::FinishReason reason = api::FinishReason::Stop;
  std::optional<TokenId> stop_token;
  std::int32_t cached_tokens = 0;
  bool open = false;                     // goes on after the tokens until it is cancelled
  std::vector<std::string> places = {};  // told before the tokens
  bool for_client = false;               // the message of its failure
};

// A generator that answers from scripts, on a thread of its own like the engine. Scores are
// event_of()'s; prompt tokens are scored when asked for.
class FakeGenerator final : public api::Generator {
 public:
  using Writer = std::function<Script(const api::GenerationRequest& request)>;

  explicit FakeGenerator(Writer writer) : writer_(std::move(writer)), thread_([this] { run(); }) {}
  FakeGenerator(const FakeGenerator&) = delete;
  FakeGenerator& operator=(const FakeGenerator&) = delete;

  // Finishes what is open with Cancelled, as the engine does.
  ~FakeGenerator() override {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink)
      override {
    const std::scoped_lock lock(mutex_);
    if (refusal_ && requests_.size() >= accepted_before_refusal_) return *refusal_;
    const api::RequestId id{++last_id_};
    requests_.push_back(request);
    jobs_.push_back({id, std::move(request), &sink});
    wake_.notify_all();
    return id;
  }

  void cancel(api::RequestId request) override {
    const std::scoped_lock lock(mutex_);
    cancelled_.insert(request);
    wake_.notify_all();
  }

  void finish_early(api::RequestId request) override {
    const std::scoped_lock lock(mutex_);
    completed_.insert(request);
    wake_.notify_all();
  }

  [[nodiscard]] api::GeneratorStatus status() const override {
    const std::scoped_lock lock(mutex_);
    return status_;
  }
  [[nodiscard]] api::GeneratorLimits limits() const override {
    return {.vocabulary = 4096, .model_tokens_max = 256};
  }
  void reset_prefix_cache() override {}

  // The next requests but `accepted` are refused.
  void refuse(Error error, std::size_t accepted = 0) {
    const std::scoped_lock lock(mutex_);
    refusal_ = std::move(error);
    accepted_before_refusal_ = requests_.size() + accepted;
  }
  void set_status(const api::GeneratorStatus& status) {
    const std::scoped_lock lock(mutex_);
    status_ = status;
  }
  [[nodiscard]] std::vector<api::GenerationRequest> requests() const {
    const std::scoped_lock lock(mutex_);
    return requests_;
  }
  // Requests cancelled while they were open.
  [[nodiscard]] std::size_t cut() const {
    const std::scoped_lock lock(mutex_);
    return cut_;
  }
  void wait_until_cut(std::size_t count) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return cut_ >= count; });
  }
  // Likewise those finished early.
  void wait_until_completed(std::size_t count) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return completed_early_ >= count; });
  }
  void wait_until_open(std::size_t count) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return open_.size() >= count; });
  }
  // Ends every open request as the engine would after a fault.
  void break_open_requests() {
    const std::scoped_lock lock(mutex_);
    broken_ = true;
    wake_.notify_all();
  }

 private:
  struct Job {
    api::RequestId id;
    api::GenerationRequest request;
    api::GenerationSink* sink = nullptr;
  };

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      finish_open();
      if (!jobs_.empty()) {
        Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        play(job);
        lock.lock();
        continue;
      }
      if (stopping_) return;
      wake_.wait(lock);
    }
  }

  // Holding the lock is fine: sinks must return at once.
  void finish_open() {
    for (auto it = open_.begin(); it != open_.end();) {
      const auto reason = ending_of(it->first);
      if (!reason) {
        ++it;
        continue;
      }
      cut_ += *reason == api::FinishReason::Cancelled ? 1U : 0U;
      completed_early_ += *reason == api::FinishReason::Stop ? 1U : 0U;
      it->second->on_finish({
          .request = it->first,
          .reason = *reason,
          .message = *reason == api::FinishReason::Error ? "the device is gone" : "",
      });
      it = open_.erase(it);
    }
    wake_.notify_all();
  }

  // How an open request ends now, if it does.
  [[nodiscard]] std::optional<api::FinishReason> ending_of(api::RequestId request) const {
    if (completed_.contains(request)) return api::FinishReason::Stop;
    if (cancelled_.contains(request) || stopping_) return api::FinishReason::Cancelled;
    if (broken_) return api::FinishReason::Error;
    return std::nullopt;
  }

  void play(const Job& job) {
    const Script script = writer_(job.request);
    for (const std::string& place : script.places) {
      job.sink->on_placed({.request = job.id, .place = place});
    }
    if (job.request.prompt_top_logprobs) {
      for (std::size_t i = 1; i < job.request.prompt.size(); ++i) {
        job.sink->on_prompt_token(event_of(job.request.prompt[i], *job.request.prompt_top_logprobs)
        );
      }
    }
    for (const TokenId id : script.tokens) {
      job.sink->on_token(event_of(id, job.request.top_logprobs.value_or(0)));
    }
    const std::scoped_lock lock(mutex_);
    if (script.open) {
      open_.emplace(job.id, job.sink);
      return;
    }
    job.sink->on_finish({
        .request = job.id,
        .reason = script.reason,
        .stop_token = script.stop_token,
        .prompt_tokens = static_cast<std::int32_t>(job.request.prompt.size()),
        .cached_tokens = script.cached_tokens,
        .output_tokens = static_cast<std::int32_t>(script.tokens.size()),
        .message = script.reason == api::FinishReason::Error ? "the device is gone" : "",
        .for_client = script.for_client,
    });
  }

  mutable std::mutex mutex_;  // guards everything below but the thread
  std::condition_variable wake_;
  Writer writer_;
  std::deque<Job> jobs_;
  std::map<api::RequestId, api::GenerationSink*> open_;
  std::set<api::RequestId> cancelled_;
  std::set<api::RequestId> completed_;
  std::vector<api::GenerationRequest> requests_;
  std::optional<Error> refusal_;
  std::size_t accepted_before_refusal_ = 0;
  api::GeneratorStatus status_{.accepting = true};
  std::uint64_t last_id_ = 0;
  std::size_t cut_ = 0;
  std::size_t completed_early_ = 0;
  bool broken_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pleiad::server
