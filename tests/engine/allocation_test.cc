// A program-wide count of allocations; left out of sanitizer builds, which bring operators of their
// own.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/engine/engine_harness.h"

namespace {

// Allocations of the whole test program, to show that a steady step makes none.
std::atomic<std::uint64_t> allocations{0};  // NOLINT: the replaced operators have no other place

}  // namespace

// Not inlined: g++ would see malloc paired with delete and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*bytes*/) noexcept {
  std::free(memory);
}

namespace pleiad::engine {
namespace {

// Sampling, penalties and scores, so that each of them would be caught allocating.
api::GenerationRequest request_of_everything() {
  return {
      .prompt = {0, 3, 500, 4},
      .sampling = {.temperature = 0.9F, .top_p = 0.95F, .seed = 77, .presence_penalty = 0.3F},
      .ignore_eos = true,
      .top_logprobs = 5,
  };
}

TEST(Engine, ASteadyStepAllocatesNothing) {
  // Counts allocations between two of its tokens, on the engine's own thread.
  class CountingSink final : public api::GenerationSink {
   public:
    void on_prompt_token(const api::TokenEvent& /*event*/) override {}
    void on_token(const api::TokenEvent& /*event*/) override {
      ++tokens_;
      if (tokens_ == 20) begin_ = allocations.load();
      if (tokens_ == 180) end_ = allocations.load();
    }
    void on_finish(const api::FinishEvent& /*event*/) override {
      done_.store(true);
      done_.notify_all();
    }
    std::uint64_t wait() {
      done_.wait(false);
      return end_ - begin_;
    }

   private:
    int tokens_ = 0;
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
    std::atomic<bool> done_{false};
  };
  EngineHarness harness(fable_settings());
  CountingSink sink;
  api::GenerationRequest request = request_of_everything();
  request.max_tokens = 200;

  ASSERT_TRUE(harness.engine->submit(request, sink).ok());

  EXPECT_EQ(sink.wait(), 0U);
}

}  // namespace
}  // namespace pleiad::engine
