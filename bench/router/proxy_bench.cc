// What `pleiad route` costs between clients and workers, over real sockets: a router process, one
// worker without a model that puts out tokens at a given pace, and clients that stream completions.
// Worker and clients run in this process, so that the router's processor time stands alone.
//
// usage: router_proxy_bench PATH_TO_PLEIAD MODEL_FOLDER [SECONDS]
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/core.h>

#include "api/generation_wire.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "bench/router/child_process.h"
#include "bench/router/paced_worker.h"
#include "net/event_loop.h"
#include "net/http_client.h"

namespace pleiad::bench {
namespace {

const std::string kSecret = "of the benchmark";
constexpr std::int64_t kVocabulary = 4096;

// Clients that each have one stream open all the time. A thread of its own.
class Clients {
 public:
  Clients(net::HttpClientRequest request, std::size_t streams)
      : request_(std::move(request)),
        client_(loop_, {.idle_connections_max = streams}),
        calls_(streams) {
    for (std::size_t i = 0; i < streams; ++i) {
      loop_.post([this, i] { begin(i); });
    }
    thread_ = std::thread([this] { loop_.run(); });
  }
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;
  ~Clients() {
    loop_.stop();
    thread_.join();
  }

  [[nodiscard]] std::uint64_t events() const { return events_.load(); }
  [[nodiscard]] std::uint64_t ended() const { return ended_.load(); }
  [[nodiscard]] std::uint64_t failed() const { return failed_.load(); }

 private:
  void begin(std::size_t index) {
    calls_[index] = client_.send(
        request_,
        {.on_head =
             [this](const net::HttpResponseHead& head) {
               if (head.status != 200) ++failed_;
             },
         .on_body =
             [this](std::string_view bytes) {
               // Events of server-sent streams end with an empty line.
               for (auto at = bytes.find("\n\n"); at != std::string_view::npos;
                    at = bytes.find("\n\n", at + 2)) {
                 events_.fetch_add(1, std::memory_order_relaxed);
               }
             },
         .on_end =
             [this, index](const Result<void>& ended) {
               ended.ok() ? ++ended_ : ++failed_;
               begin(index);
             }}
    );
  }

  net::HttpClientRequest request_;
  std::atomic<std::uint64_t> events_{0};
  std::atomic<std::uint64_t> ended_{0};
  std::atomic<std::uint64_t> failed_{0};
  net::EventLoop loop_;
  net::HttpClient client_;
  std::vector<net::HttpCall> calls_;
  std::thread thread_;
};

net::HttpClientRequest completion(const std::string& router, int tokens) {
  return {
      .method = "POST",
      .url = net::parse_url(router + "/v1/completions").value(),
      .headers = {{"Content-Type", "application/json"}},
      .body = fmt::format(
          R"({{"model":"","prompt":"Once upon a time","max_tokens":{},"stream":true,"ignore_eos":true}})",
          tokens
      ),
  };
}

net::HttpClientRequest generation(const std::string& worker, int tokens) {
  const auto bytes = api::encode(api::SubmitMessage{
      .id = api::RequestId(1), .request = {.prompt = {1, 2, 3, 4}, .max_tokens = tokens}});
  return {
      .method = "POST",
      .url = net::parse_url(worker + "/internal/generate").value(),
      .headers = {{"Authorization", "Bearer " + kSecret}},
      .body = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
  };
}

void wait_until_ready(const std::string& router) {
  const SystemClock clock;
  const Nanoseconds end = clock.now() + std::chrono::seconds(30);
  while (clock.now() < end) {
    const auto answer = net::http_fetch({.url = net::parse_url(router + "/ready").value()});
    if (answer.ok() && answer->status == 200) return;
    std::this_thread::yield();
  }
  PLEIAD_CHECK(false, "the router is not ready");
}

// Seconds from sending to the first byte of the body, one request after another on one connection.
std::vector<double> first_bytes(const net::HttpClientRequest& request, int count) {
  const SystemClock clock;
  std::vector<double> seconds;
  net::EventLoop loop;
  net::HttpClient client(loop);
  net::HttpCall call;
  Nanoseconds sent{0};
  bool came = false;
  std::function<void()> next = [&] {
    if (static_cast<int>(seconds.size()) == count) {
      loop.stop();
      return;
    }
    came = false;
    sent = clock.now();
    call = client.send(
        request,
        {.on_body =
             [&](std::string_view) {
               if (!came) seconds.push_back(to_seconds(clock.now() - sent));
               came = true;
             },
         .on_end = [&](const Result<void>&) { loop.post([&] { next(); }); }}
    );
  };
  loop.post([&] { next(); });
  loop.run();
  std::ranges::sort(seconds);
  return seconds;
}

void bench_first_token(const ChildProcess& router, const PacedWorker& worker) {
  constexpr int kCount = 1000;
  for (int round = 0; round < 3; ++round) {
    const auto alone = first_bytes(generation(worker.url(), 1), kCount);
    const auto through = first_bytes(completion(router.url(), 1), kCount);
    fmt::print(
        "first byte: worker alone {:.0f} us (p99 {:.0f}), through the router {:.0f} us (p99 "
        "{:.0f}): {:.0f} us more\n",
        1e6 * alone[kCount / 2],
        1e6 * alone[kCount * 99 / 100],
        1e6 * through[kCount / 2],
        1e6 * through[kCount * 99 / 100],
        1e6 * (through[kCount / 2] - alone[kCount / 2])
    );
  }
}

void bench_streams(
    const ChildProcess& router,
    std::size_t streams,
    int tokens,
    double seconds_wanted
) {
  Clients clients(completion(router.url(), tokens), streams);
  const SystemClock clock;
  const auto wait = [&](double seconds) {
    const Nanoseconds end = clock.now() + Nanoseconds{static_cast<std::int64_t>(seconds * 1e9)};
    net::EventLoop loop;
    const net::Timer timer = loop.after(end - clock.now(), [&] { loop.stop(); });
    loop.run();
  };
  wait(2.0);
  const Nanoseconds begin = clock.now();
  const double cpu = router.cpu_seconds();
  const std::uint64_t events = clients.events();
  wait(seconds_wanted);
  const double seconds = to_seconds(clock.now() - begin);
  const double used = router.cpu_seconds() - cpu;
  const auto came = static_cast<double>(clients.events() - events);
  fmt::print(
      "{} streams: {:.0f} tokens/s, router at {:.0f} % of a core, {:.1f} us per token ({:.0f} "
      "tokens per core second), {:.0f} MiB resident, {} failed\n",
      streams,
      came / seconds,
      100.0 * used / seconds,
      1e6 * used / came,
      came / used,
      router.resident_mib(),
      clients.failed()
  );
}

int main_with(const std::string& program, const std::string& model, double seconds) {
  const auto route = [&](const PacedWorker& worker) {
    return std::vector<std::string>{
        program,
        "route",
        model,
        "--port",
        "0",
        "--log-level",
        "warning",
        "--worker-urls",
        worker.url()};
  };
  {
    const PacedWorker worker(kSecret, std::chrono::milliseconds(10), kVocabulary);
    const ChildProcess router(route(worker), kSecret);
    wait_until_ready(router.url());
    bench_first_token(router, worker);
    bench_streams(router, 64, 200, seconds);
  }
  {
    const PacedWorker worker(kSecret, std::chrono::milliseconds(50), kVocabulary);
    const ChildProcess router(route(worker), kSecret);
    wait_until_ready(router.url());
    bench_streams(router, 1000, 200, seconds);
  }
  {
    // More than can be: what is left is what the router can do.
    const PacedWorker worker(kSecret, std::chrono::milliseconds(5), kVocabulary);
    const ChildProcess router(route(worker), kSecret);
    wait_until_ready(router.url());
    bench_streams(router, 256, 1000, seconds);
  }
  return 0;
}

}  // namespace
}  // namespace pleiad::bench

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: router_proxy_bench PATH_TO_PLEIAD MODEL_FOLDER [SECONDS]\n");
    return 2;
  }
  pleiad::set_log_level(pleiad::LogLevel::Error);
  return pleiad::bench::main_with(argv[1], argv[2], argc > 3 ? std::atof(argv[3]) : 5.0);
}
