#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "apps/hand_over_flags.h"
#include "apps/model_text_loader.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "comm/ucx_group.h"
#include "engine/group_keeper.h"
#include "engine/load.h"
#include "engine/rank_set.h"
#include "net/event_loop.h"
#include "net/http_server.h"
#include "server/openai_service.h"
#include "server/peer_api.h"
#include "server/prefill_client.h"
#include "server/router_registration.h"

namespace pleiad::apps {

struct ServeSettings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  bool allow_unauthenticated = false;  // beyond loopback
  std::vector<std::string> api_keys;
  std::vector<std::string> served_names;  // empty: the folder's name
  bool ignore_generation_config = false;
  ModelTextSettings text;
  engine::LoadSettings load;
  HandOverChoice hand_over;
  // For a group of several nodes:
  std::string dist_init_addr;  // node 0's, host:port
  std::string cluster_secret;
  // Routers that this worker registers with, and how they reach it; empty: as it listens.
  std::vector<std::string> routers;
  std::string register_url;
  std::chrono::milliseconds step_timeout{60'000};  // of one wait for a peer
  comm::UcxGroupOptions ucx;
};

// How the group of these settings is formed around a loaded model.
engine::GroupOptions group_options(const ServeSettings& settings, const engine::LoadedModel& model);

// The name that clients are told, and the label of the metrics.
std::string model_name_of(const ServeSettings& settings);

// Checks what a node of a group needs beside the model, and what the worker's role does.
Result<void> check_group_settings(const ServeSettings& settings);

// Checks what a worker needs to register with routers.
Result<void> check_register_settings(const ServeSettings& settings);

// How long the phases of a start took, in seconds, and what was loaded.
struct StartReport {
  std::string architecture;
  std::string compute;
  std::string isa;  // or the GPU's name
  int threads = 0;  // of each rank
  double read_seconds = 0.0;
  double pack_seconds = 0.0;
  double prepare_seconds = 0.0;
  double cache_seconds = 0.0;
  double record_seconds = 0.0;
  model::LoadPhases phases;  // of the weights
  bool dummy_weights = false;
  bool token_ids_only = false;  // there is no tokenizer
  double ready_seconds = 0.0;   // from start() to the first request that can be answered
  plan::ParallelLayout layout;
  std::int32_t ranks_here = 1;
  std::size_t weight_bytes = 0;  // of this process
  model::ScratchBytes scratch;   // of all ranks here
  std::size_t kv_bytes = 0;      // of all ranks here
  std::int64_t pages = 0;        // of each rank
  std::int64_t model_tokens = 0;
};

// The report of what was loaded.
StartReport report_of(const engine::LoadedModel& model, const plan::ParallelLayout& layout);

// One serving worker (node 0 of its group): port, text, ranks and the threads that run them. The
// port is taken first, so a port in use is told at once; until the model is loaded every request is
// answered 503. One thread starts, drains and destroys it.
class ServeInstance {
 public:
  // Blocks until requests can be answered. Fails with what is wrong: flag or file, value, way out;
  // with Cancelled when `stop` is requested while the group waits for nodes.
  static Result<std::unique_ptr<ServeInstance>>
  start(ServeSettings settings, const std::stop_token& stop = {});

  ServeInstance(const ServeInstance&) = delete;
  ServeInstance& operator=(const ServeInstance&) = delete;
  // Cuts what is still open.
  ~ServeInstance();

  [[nodiscard]] std::string url() const;
  [[nodiscard]] const std::string& model_name() const { return model_name_; }
  [[nodiscard]] const StartReport& report() const { return report_; }
  // Where other nodes find this one; 0 for a group of one node.
  [[nodiscard]] std::uint16_t rendezvous_port() const { return keeper_->rendezvous_port(); }
  // Takes no new requests; `on_drained` runs on the loop's thread when the last answer is sent.
  void drain(net::Task on_drained);

 private:
  explicit ServeInstance(ServeSettings settings);
  Result<void> listen();
  Result<void> load(const std::stop_token& stop);
  Result<void> form_and_try(const std::stop_token& stop);
  Result<void> open_registration();
  void handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder);
  [[nodiscard]] api::WorkerReport worker_report() const;
  [[nodiscard]] api::WorkerReport::Identity identity_of(const engine::LoadedModel& model) const;
  [[nodiscard]] engine::HandOverSettings hand_over_settings(const engine::LoadedModel& model);
  void offer_to_peers();

  ServeSettings settings_;
  const std::string instance_;  // of this start, among all of them
  std::string model_name_;
  SystemClock clock_;
  MetricsRegistry metrics_;
  StartReport report_;
  server::ModelText text_;
  net::EventLoop loop_;
  net::EventLoop text_loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::unique_ptr<server::PrefillClient> prefill_client_;  // of a decode worker
  std::unique_ptr<engine::RankSet> ranks_;
  std::unique_ptr<engine::GroupKeeper> keeper_;
  std::unique_ptr<server::OpenaiService> service_;
  std::unique_ptr<server::PeerApi> peers_;                      // null without a secret
  std::unique_ptr<server::RouterRegistration> registration_;    // null without routers
  std::atomic<server::OpenaiService*> ready_service_{nullptr};  // null: still loading
  std::thread loop_thread_;
  std::thread text_thread_;
};

}  // namespace pleiad::apps
