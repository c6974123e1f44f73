// usage: transfer_bench [MEGABYTES...]
// How fast keys and values that are there already travel, beside a plain copy and a plain TCP
// connection measured in the same run: sender, server, client and assembly are the program's own,
// over a real connection in one process; only the model is left out. And what one thread can at
// most: the checksum of a page, alone and behind the copy of it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <fmt/core.h>

#include "base/check.h"
#include "base/clock.h"
#include "bench/comm/loopback.h"
#include "engine/kv_fetch.h"
#include "engine/kv_sender.h"
#include "kv/lines.h"
#include "kv/shared_memory.h"
#include "net/http_server.h"
#include "server/peer_api.h"
#include "server/prefill_client.h"

namespace pleiad {
namespace {

constexpr double kMega = 1e6;
constexpr int kRuns = 7;
constexpr const char* kSecret = "bench";

// One whole layer set of a model: 8 heads of 128, or a latent.
struct Kind {
  const char* name;
  kv::LineShape shape;
};
constexpr Kind kKinds[] = {
    {"8 heads of 128, 32 layers", {.layers = 32, .heads = 8, .key_width = 128, .value_width = 128}},
    {"latent of 576, 60 layers", {.layers = 60, .heads = 1, .key_width = 576}},
};

// A cache with pages, and how it is told to others.
struct Cache {
  kv::SharedName name;
  kv::PagedCache cache;
  kv::PartCache part;

  Cache(const kv::LineShape& shape, std::int64_t pages) {
    const kv::PartPlan plan{.shape = shape, .heads = {0, shape.heads}, .pages = pages};
    const std::size_t bytes =
        plan.cache_shape().page_bytes_all_layers() * static_cast<std::size_t>(pages);
    auto memory = kv::SharedMemory::allocate(bytes);
    PLEIAD_CHECK(memory.ok(), memory.ok() ? "" : memory.error().message);
    name = (*memory)->name();
    cache = kv::PagedCache::elsewhere(plan.cache_shape(), pages, std::move(*memory));
    part = {.plan = plan, .base = cache.layer(0)};
    std::memset(part.base, 1, bytes);
  }
};

engine::RankCaches caches_of(const Cache& cache) {
  return {.shape = cache.part.plan.shape, .parts = {cache.part}};
}

std::vector<std::uint32_t> all_pages(std::int64_t pages) {
  std::vector<std::uint32_t> out(static_cast<std::size_t>(pages));
  std::iota(out.begin(), out.end(), 0U);
  std::ranges::reverse(out);
  return out;
}

// A generator that has every prompt's keys and values already.
class Filled final : public api::Generator {
 public:
  explicit Filled(const Cache& cache)
      : cache_(cache),
        metrics_(registry_, "bench", 0),
        sender_(
            {.caches = caches_of(cache),
             .on_over = [this](api::RequestId id, engine::KvSender::Over) { over(id); }},
            clock_,
            metrics_
        ),
        closer_([this] { close_all(); }) {}
  ~Filled() override {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    closer_.join();
  }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink)
      override {
    const api::RequestId id(next_++);
    const auto end = static_cast<std::int64_t>(request.prompt.size());
    {
      const std::scoped_lock lock(mutex_);
      sinks_[id.value()] = &sink;
    }
    sender_.open(id, *request.kv_order, end);
    sender_.place(id, all_pages(cache_.part.plan.pages));
    for (std::int64_t layer = 0; layer < cache_.part.plan.shape.layers; ++layer) {
      const engine::KvRun run{.request = id, .first = 0, .end = end};
      sender_.ship(layer, std::span(&run, 1));
    }
    return id;
  }
  // Whoever reads in place hangs up at the end.
  void cancel(api::RequestId id) override { over(id); }
  void finish_early(api::RequestId /*id*/) override {}
  [[nodiscard]] api::GeneratorStatus status() const override { return {}; }
  [[nodiscard]] api::GeneratorLimits limits() const override { return {}; }
  void reset_prefix_cache() override {}

 private:
  void over(api::RequestId id) {
    {
      const std::scoped_lock lock(mutex_);
      over_.push_back(id.value());
    }
    changed_.notify_all();
  }
  void close_all() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !over_.empty(); });
      if (stopping_) return;
      const std::uint64_t id = over_.back();
      over_.pop_back();
      const auto at = sinks_.find(id);
      if (at == sinks_.end()) continue;
      api::GenerationSink* sink = at->second;
      sinks_.erase(at);
      lock.unlock();
      sender_.close(api::RequestId(id), "");
      sink->on_finish({.request = api::RequestId(id)});
      lock.lock();
    }
  }

  const Cache& cache_;
  SystemClock clock_;
  MetricsRegistry registry_;
  engine::HandOverMetrics metrics_;
  std::uint64_t next_ = 1;
  std::mutex mutex_;  // guards the next three
  std::map<std::uint64_t, api::GenerationSink*> sinks_;
  std::vector<std::uint64_t> over_;
  bool stopping_ = false;
  std::condition_variable changed_;
  engine::KvSender sender_;
  std::thread closer_;
};

// A sender behind its server, and a receiver.
class Pair {
 public:
  Pair(const kv::LineShape& shape, std::int64_t pages)
      : from_(shape, pages),
        to_(shape, pages),
        offer_{
            .identity = {.version = "1", .model = "bench", .digest = "d", .page_tokens = 64},
            .instance = "one",
            .lines = shape,
            .caches = {{.name = from_.name, .heads = {0, shape.heads}, .pages = pages}}},
        filled_(std::make_unique<Filled>(from_)),
        api_(std::make_unique<server::PeerApi>(
            *filled_,
            loop_,
            server::PeerApi::Options{
                .secret = kSecret,
                .instance = "one",
                .report = [] { return api::WorkerReport{}; },
                .prefill_offer = [this] { return engine::to_text(offer_); }}
        )),
        client_({.secret = kSecret}),
        metrics_(registry_, "bench", 1) {
    server_ = net::HttpServer::listen(
                  loop_,
                  {},
                  [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
                    api_->handle(std::move(request), std::move(responder));
                  }
    ).value();
    thread_ = std::thread([this] { loop_.run(); });
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() {
    loop_.stop();
    thread_.join();
    server_.reset();
    api_.reset();
    filled_.reset();
  }

  // Seconds until everything is in the receiver's pages.
  double transfer(bool shared) {
    const std::int64_t tokens = to_.part.plan.pages * kv::kPageTokens;
    const TransferId id{.epoch = 1, .number = ++transfers_};
    std::promise<Result<void>> ended;
    const Nanoseconds begin = clock_.now();
    const engine::KvFetch fetch(
        {.from = {.url = fmt::format("http://127.0.0.1:{}", server_->port())},
         .order = {.id = id, .prompt = std::vector<TokenId>(static_cast<std::size_t>(tokens), 7)},
         .plan =
             {.id = id,
              .shape = to_.part.plan.shape,
              .end = tokens,
              .parts = {to_.part},
              .pages = all_pages(to_.part.plan.pages)},
         .share_memory = shared,
         .on_end = [&ended](api::KvEnding ending) { ended.set_value(std::move(ending.how)); }},
        {.own = offer_, .source = client_, .mapped = mapped_, .clock = clock_, .metrics = metrics_}
    );
    const auto how = ended.get_future().get();
    PLEIAD_CHECK(how.ok(), how.ok() ? "" : how.error().message);
    return to_seconds(clock_.now() - begin);
  }

 private:
  SystemClock clock_;
  Cache from_;
  Cache to_;
  engine::PrefillOffer offer_;
  std::unique_ptr<Filled> filled_;
  net::EventLoop loop_;
  std::unique_ptr<server::PeerApi> api_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
  server::PrefillClient client_;
  MetricsRegistry registry_;
  engine::HandOverMetrics metrics_;
  engine::MappedCaches mapped_;
  std::uint64_t transfers_ = 0;
};

void measure(const Kind& kind, std::size_t bytes) {
  const std::size_t page = kind.shape.bytes(kind.shape.heads) *
                           static_cast<std::size_t>(kv::kPageTokens * kind.shape.layers);
  const auto pages = static_cast<std::int64_t>(std::max<std::size_t>(1, bytes / page));
  const auto all = static_cast<double>(page) * static_cast<double>(pages);
  Pair pair(kind.shape, pages);
  for (const bool shared : {true, false}) {
    pair.transfer(shared);
    std::vector<double> rates;
    for (int run = 0; run < kRuns; ++run) {
      rates.push_back(all / pair.transfer(shared));
    }
    std::ranges::sort(rates);
    constexpr std::size_t kSent = std::size_t{256} << 10U;
    const double limit = shared ? bench::memcpy_bandwidth(std::min<std::size_t>(bytes, 256U << 20U))
                                : bench::measure_loopback(kSent).bandwidth;
    fmt::print(
        "{:26} {:6.0f} MB {:13} {:6.0f} MB/s ({:.0f} to {:.0f}), {:3.0f} % of {}'s {:.0f}\n",
        kind.name,
        all / kMega,
        shared ? "shared memory" : "TCP",
        rates[kRuns / 2] / kMega,
        rates.front() / kMega,
        rates.back() / kMega,
        100.0 * rates[kRuns / 2] / limit,
        shared ? "memcpy" : "loopback",
        limit / kMega
    );
  }
}

// Bytes a second whose checksums one thread takes page by page, behind the copy of each or not.
double page_bandwidth(std::span<std::byte> to, std::span<const std::byte> from, bool copied) {
  constexpr std::size_t kPage = std::size_t{256} << 10U;  // as of 8 heads of 128
  const SystemClock clock;
  double best = 0.0;
  for (int run = 0; run < kRuns; ++run) {
    std::uint64_t sum = 0;
    const Nanoseconds begin = clock.now();
    for (std::size_t at = 0; at < from.size(); at += kPage) {
      const auto page = to.subspan(at, kPage);
      if (copied) std::memcpy(page.data(), from.subspan(at, kPage).data(), kPage);
      sum = kv::checksum_piece(sum, page);
    }
    const double seconds = to_seconds(clock.now() - begin);
    PLEIAD_CHECK(sum != 0);
    best = std::max(best, static_cast<double>(from.size()) / seconds);
  }
  return best;
}

void measure_checksum(std::size_t bytes) {
  const std::vector<std::byte> from(bytes, std::byte{1});
  std::vector<std::byte> to(bytes, std::byte{1});
  const double checked = page_bandwidth(to, from, /*copied=*/false);
  const double both = page_bandwidth(to, from, /*copied=*/true);
  const double copied = bench::memcpy_bandwidth(bytes);
  fmt::print(
      "one thread, {:.0f} MB: checksums {:.0f} MB/s, copies and their checksums {:.0f} MB/s, "
      "{:.0f} "
      "% of memcpy's {:.0f}\n",
      static_cast<double>(bytes) / kMega,
      checked / kMega,
      both / kMega,
      100.0 * both / copied,
      copied / kMega
  );
}

int run(int count, char** words) {
  std::vector<std::size_t> megabytes;
  for (int i = 1; i < count; ++i) {
    megabytes.push_back(static_cast<std::size_t>(std::atoll(words[i])));
  }
  if (megabytes.empty()) megabytes = {4, 64, 256, 1024};
  for (const std::size_t size : {std::size_t{512} << 10U, std::size_t{256} << 20U}) {
    measure_checksum(size);
  }
  fmt::print("median of {} hand-overs (slowest to fastest)\n", kRuns);
  for (const Kind& kind : kKinds) {
    for (const std::size_t size : megabytes) {
      measure(kind, size << 20U);
    }
  }
  return 0;
}

}  // namespace
}  // namespace pleiad

int main(int count, char** words) {
  return pleiad::run(count, words);
}
