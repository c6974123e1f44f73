#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "api/worker_report.h"
#include "plan/parallel_layout.h"
#include "tests/service/gated_parts.h"

namespace pleiad::service {

inline constexpr const char* kSecret = "of the service";

struct WorkerSettings {
  std::filesystem::path model;
  api::Role role = api::Role::Both;
  plan::ParallelLayout layout;
  bool share_memory = true;
  std::int64_t running_max = 8;
  std::int64_t step_tokens_max = 128;
  std::size_t kv_bytes_per_rank = std::size_t{2} << 20U;
  Broken broken = Broken::Nothing;
};

// A worker without text: real engines behind a real server of peers at a port of its own. It can
// stand still, as if its process were stopped, and die, as if it were killed: nothing goes out from
// then on, its connections close, and nobody is told. A start after that is another process at the
// same port. One thread.
class LiveWorker {
 public:
  LiveWorker(WorkerSettings settings, GateWatch watch);
  LiveWorker(const LiveWorker&) = delete;
  LiveWorker& operator=(const LiveWorker&) = delete;
  ~LiveWorker();

  // REQUIRES: it does not run.
  void start();
  void kill();
  // REQUIRE: it runs. A gate that has shut itself is opened by thaw() too.
  void freeze();
  void thaw();
  [[nodiscard]] bool runs() const { return process_ != nullptr; }
  // Counts its processes. Any thread of the one that runs.
  [[nodiscard]] int life() const { return life_.load(); }
  [[nodiscard]] std::string url() const;
  [[nodiscard]] const WorkerSettings& settings() const { return settings_; }
  // What it holds for requests, in words; empty: nothing. REQUIRES: it runs.
  [[nodiscard]] std::string held() const;

 private:
  class Process;

  const WorkerSettings settings_;
  const GateWatch watch_;
  std::uint16_t port_ = 0;
  std::atomic<int> life_{0};
  std::unique_ptr<Process> process_;  // null: dead
};

}  // namespace pleiad::service
