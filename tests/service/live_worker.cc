#include "tests/service/live_worker.h"

#include <thread>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"
#include "base/metrics.h"
#include "base/random.h"
#include "engine/group_keeper.h"
#include "engine/load.h"
#include "engine/rank_set.h"
#include "net/http_server.h"
#include "server/api_error.h"
#include "server/peer_api.h"
#include "server/prefill_client.h"

namespace pleiad::service {
namespace {

engine::LoadedModel load(const WorkerSettings& settings, const Clock& clock) {
  const std::int32_t ranks = settings.layout.ranks();
  auto loaded = engine::load_model(
      {.model = settings.model,
       .threads = ranks,
       .max_num_seqs = settings.running_max,
       .max_num_batched_tokens = settings.step_tokens_max,
       .max_waiting = 16,
       .kv_cache_bytes = settings.kv_bytes_per_rank * static_cast<std::size_t>(ranks),
       .share_caches = settings.role == api::Role::Prefill,
       .model_name = "model",
       .layout = settings.layout},
      clock
  );
  PLEIAD_CHECK(loaded.ok(), loaded.ok() ? "" : loaded.error().message);
  return std::move(*loaded);
}

// A port that nobody listens at, below those that the system gives to connections, so that it is
// free again when the worker is. Taken by listening.
std::unique_ptr<net::HttpServer>
listen(net::EventLoop& loop, std::uint16_t port, const std::function<net::HttpHandler()>& handler) {
  Random random(entropy_seed());
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const auto tried =
        port != 0 ? port : static_cast<std::uint16_t>(random.between(12'000, 32'000));
    auto server = net::HttpServer::listen(loop, {.port = tried}, handler());
    if (server.ok()) return std::move(*server);
    PLEIAD_CHECK(port == 0, server.error().message);
  }
  PLEIAD_CHECK(false, "no port is free");
  return nullptr;
}

}  // namespace

// One life of the worker.
class LiveWorker::Process {
 public:
  Process(const WorkerSettings& settings, const GateWatch& watch, std::uint16_t port)
      : settings_(settings), instance_(fmt::format("{:016x}", entropy_seed())) {
    auto model = load(settings, clock_);
    identity_ = {
        .version = "1",
        .model = "model",
        .digest = model.digest,
        .compute = engine::arithmetic_of(model),
        .page_tokens = sched::kPageTokens};
    if (settings.role == api::Role::Decode) {
      client_ = std::make_unique<server::PrefillClient>(server::PrefillClient::Options{
          .secret = kSecret});
      source_ = std::make_unique<GatedSource>(*client_, gate_, watch);
    }
    const engine::HandOverSettings hand_over{
        .role = settings.role,
        .identity = identity_,
        .instance = instance_,
        .source = source_.get(),
        .share_memory = settings.share_memory};
    ranks_ = std::make_unique<engine::RankSet>(std::move(model), clock_, metrics_, hand_over);
    keeper_ = engine::GroupKeeper::start(*ranks_, {.layout = settings.layout}).value();
    PLEIAD_CHECK(keeper_->wait_until_formed().ok());
    generator_ = std::make_unique<GatedGenerator>(*keeper_, gate_, watch, settings.broken);
    make_peers();
    server_ = listen(loop_, port, [this]() -> net::HttpHandler {
      return [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
        peers_->handle(std::move(request), std::move(responder));
      };
    });
    thread_ = std::thread([this] { loop_.run(); });
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  // As the kernel ends it: what is not in a socket yet never comes, and every connection closes.
  ~Process() {
    loop_.stop();  // ends with what it is at, which the gate keeps from answering
    gate_.die();
    thread_.join();
    server_.reset();
    keeper_.reset();
    ranks_.reset();
  }

  void freeze() {
    gate_.shut();
    loop_.post([this] { gate_.pass(); });
  }
  void thaw() { gate_.open(); }
  [[nodiscard]] std::uint16_t port() const { return server_->port(); }

  [[nodiscard]] std::string held() const {
    std::string out;
    const auto note = [&out](std::string_view what, double count) {
      if (count != 0.0) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", count, what);
    };
    std::int64_t held = 0;
    std::int64_t open = 0;
    for (const api::GeneratorStatus& rank : keeper_->status_of_ranks()) {
      held += rank.pages_held;
      open += rank.running + rank.waiting;
    }
    note("pages", static_cast<double>(held));
    note("requests", static_cast<double>(open));
    note("holds", total("pleiad_kv_holds"));
    note("expired holds", total("pleiad_kv_hold_expired_total"));
    note("open answers", static_cast<double>(server_->open_requests()));
    return out;
  }

 private:
  void make_peers() {
    server::PeerApi::Options options{
        .secret = kSecret, .instance = instance_, .report = [this] { return report(); }};
    if (settings_.role == api::Role::Prefill)
      options.prefill_offer = [this] { return ranks_->prefill_offer(); };
    peers_ = std::make_unique<server::PeerApi>(*generator_, loop_, std::move(options));
  }
  [[nodiscard]] api::WorkerReport report() const {
    return {
        .instance = instance_,
        .identity = identity_,
        .role = settings_.role,
        .limits = keeper_->limits(),
        .accepting = keeper_->status().accepting,
        .ranks = keeper_->status_of_ranks()};
  }
  // Of all ranks.
  [[nodiscard]] double total(const std::string& name) const {
    const std::string text = metrics_.render();
    double sum = 0.0;
    for (std::size_t at = text.find("\n" + name + "{"); at != std::string::npos;
         at = text.find("\n" + name + "{", at + 1)) {
      sum += std::strtod(text.c_str() + text.find("} ", at) + 2, nullptr);
    }
    return sum;
  }

  const WorkerSettings& settings_;
  const std::string instance_;
  Gate gate_;
  SystemClock clock_;
  MetricsRegistry metrics_;
  api::WorkerReport::Identity identity_;
  net::EventLoop loop_;
  std::unique_ptr<server::PrefillClient> client_;  // of a decode worker
  std::unique_ptr<GatedSource> source_;
  std::unique_ptr<GatedGenerator> generator_;
  std::unique_ptr<server::PeerApi> peers_;
  std::unique_ptr<engine::RankSet> ranks_;
  std::unique_ptr<engine::GroupKeeper> keeper_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

LiveWorker::LiveWorker(WorkerSettings settings, GateWatch watch)
    : settings_(std::move(settings)), watch_(std::move(watch)) {}

LiveWorker::~LiveWorker() = default;

void LiveWorker::start() {
  PLEIAD_CHECK(process_ == nullptr, "one process at a time");
  ++life_;
  process_ = std::make_unique<Process>(settings_, watch_, port_);
  port_ = process_->port();
}

void LiveWorker::kill() {
  process_.reset();
}

void LiveWorker::freeze() {
  process_->freeze();
}

void LiveWorker::thaw() {
  process_->thaw();
}

std::string LiveWorker::url() const {
  return fmt::format("http://127.0.0.1:{}", port_);
}

std::string LiveWorker::held() const {
  return process_->held();
}

}  // namespace pleiad::service
