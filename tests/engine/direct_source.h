#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/generation.h"
#include "api/hand_over.h"

namespace pleiad::engine {

// Carries hand-overs between two sets of engines of one process, without a network, and spoils them
// where a test says so. Destroyed after the engines that receive, before those that send.
class DirectSource final : public api::KvSource {
 public:
  // What may happen to the bytes of a transfer.
  struct Trouble {
    // Called with the number of a write, from 0, and its bytes, which it may change.
    std::function<void(int write, std::string& bytes)> change;
    int cut_before = -1;  // write at which the connection breaks; -1: none
  };

  // `offer` is what prefill workers say of themselves.
  DirectSource(api::Generator& prefill, std::string offer);
  ~DirectSource() override;

  std::unique_ptr<api::KvCall> ask(const std::string& url, api::KvInlet& inlet) override;

  // For the transfers that begin from now on.
  void set_trouble(Trouble trouble);
  // Transfers stop at the write of this number, until release(). -1: none does.
  void hold_at(int write);
  // Blocks until `count` transfers stand still.
  void wait_held(int count);
  void release() { hold_at(-1); }
  // Blocks until the prefill side has finished every request.
  void wait_finished();
  // Whether the receiving side reads where the lines lie.
  [[nodiscard]] int shared_orders() const { return shared_orders_.load(); }
  [[nodiscard]] int orders() const { return orders_.load(); }

 private:
  class Pipe;
  class Call;

  void wait_at(int write, const std::function<bool()>& gone);
  void note_gone(std::atomic<bool>& gone);
  void note_finished();

  api::Generator& prefill_;
  const std::string offer_;
  std::atomic<int> orders_{0};
  std::atomic<int> shared_orders_{0};
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  Trouble trouble_;
  int hold_at_ = -1;
  int held_ = 0;
  int open_ = 0;  // requests that the prefill side has not finished
  std::vector<std::unique_ptr<Pipe>> pipes_;
};

}  // namespace pleiad::engine
