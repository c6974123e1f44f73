#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/control_link.h"

namespace pleiad::engine {

// A link whose messages nobody receives: they are kept, for the test to read.
class RecordingLink final : public comm::ControlLink {
 public:
  void start(comm::ControlEvents) override {}
  void send(comm::ControlMessage message) override {
    const std::scoped_lock lock(mutex_);
    sent_.push_back(std::move(message));
  }
  void close() override {}
  [[nodiscard]] std::string peer() const override { return "a test"; }

  // What was sent since the last call.
  std::vector<comm::ControlMessage> take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(sent_, {});
  }

 private:
  std::mutex mutex_;  // guards sent_
  std::vector<comm::ControlMessage> sent_;
};

// One end of a link inside this process. Messages go through a queue to a thread of the other end.
class PairedLink final : public comm::ControlLink {
 public:
  explicit PairedLink(std::string peer) : peer_(std::move(peer)) {}
  ~PairedLink() override { close(); }

  // REQUIRES: neither end has started; both are closed before either is destroyed.
  static void connect(PairedLink& a, PairedLink& b) {
    a.other_ = &b;
    b.other_ = &a;
  }

  void start(comm::ControlEvents events) override {
    events_ = std::move(events);
    thread_ = std::thread([this] { run(); });
  }
  void send(comm::ControlMessage message) override { other_->deliver(std::move(message)); }
  void close() override {
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] std::string peer() const override { return peer_; }

  // Tells this end that the other one is gone, after what came from it before.
  void lose(Error reason) {
    {
      const std::scoped_lock lock(mutex_);
      lost_ = std::move(reason);
    }
    changed_.notify_all();
  }

 private:
  void deliver(comm::ControlMessage message) {
    {
      const std::scoped_lock lock(mutex_);
      if (closed_ || lost_) return;
      arrived_.push_back(std::move(message));
    }
    changed_.notify_all();
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return closed_ || lost_ || !arrived_.empty(); });
      if (closed_) return;
      if (arrived_.empty()) break;
      comm::ControlMessage message = std::move(arrived_.front());
      arrived_.pop_front();
      lock.unlock();
      events_.on_message(std::move(message));
      lock.lock();
    }
    lock.unlock();
    events_.on_lost(*lost_);
  }

  const std::string peer_;
  PairedLink* other_ = nullptr;
  comm::ControlEvents events_;
  std::mutex mutex_;  // guards below
  std::condition_variable changed_;
  std::deque<comm::ControlMessage> arrived_;
  std::optional<Error> lost_;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace pleiad::engine
