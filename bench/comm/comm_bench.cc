// Latency and bandwidth of every kind of group between two ranks, beside a plain copy and a plain
// TCP connection, measured in the same run.
#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <fmt/core.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/clock.h"
#include "bench/comm/loopback.h"
#include "tests/comm/rank_runner.h"

namespace pleiad {
namespace {

using comm::Group;
using comm::Rank;
using comm::Transport;

constexpr int kRounds = 3'000;
constexpr std::array<std::size_t, 5> kSizes{
    1U << 10U,
    16U << 10U,
    256U << 10U,
    2U << 20U,
    16U << 20U};

// What rank 0 measured; shared with it when it is another process.
struct Figures {
  double latency_seconds = 0;
  std::array<double, kSizes.size()> bandwidth{};
};

void must(bool right) {
  PLEIAD_CHECK(right, "the group holds");
}

double ping_pong(Group& group) {
  std::array<std::byte, 8> bytes{};
  const SystemClock clock;
  Nanoseconds began{};
  for (int round = -100; round < kRounds; ++round) {
    if (round == 0) began = clock.now();
    if (group.rank() == 0) group.send(1, bytes);
    must(group.receive(1 - group.rank(), bytes, "ping").ok());
    if (group.rank() == 1) group.send(0, bytes);
    must(group.wait_sends("pong").ok());
  }
  return to_seconds(clock.now() - began) / (2.0 * kRounds);
}

// Rank 0 sends, at most four messages ahead; rank 1 answers when it has all.
double stream(Group& group, std::size_t bytes) {
  constexpr int kAhead = 4;
  const auto count = static_cast<int>(std::clamp<std::size_t>((256U << 20U) / bytes, 16, 20'000));
  std::vector<std::byte> buffer(bytes, std::byte{1});
  must(group.barrier("before the stream").ok());
  const SystemClock clock;
  const Nanoseconds began = clock.now();
  if (group.rank() == 0) {
    for (int i = 0; i < count; ++i) {
      group.send(1, buffer);
      if (group.sends() >= kAhead) must(group.wait_sends("stream", group.sends() - kAhead).ok());
    }
    must(group.wait_sends("stream").ok());
    must(group.receive(1, {}, "stream").ok());
    return static_cast<double>(bytes) * count / to_seconds(clock.now() - began);
  }
  for (int i = 0; i < std::min(count, kAhead); ++i) {
    group.post_receive(0, buffer);
  }
  for (int i = 0; i < count; ++i) {
    must(group.wait_receive(0, "stream").ok());
    if (i + kAhead < count) group.post_receive(0, buffer);
  }
  group.send(0, {});
  must(group.wait_sends("stream").ok());
  return 0;
}

void measure(const Transport& transport, Figures& figures) {
  const auto found = comm::run_ranks({.transport = transport}, [&](Group& group, comm::Findings&) {
    const double latency = ping_pong(group);
    if (group.rank() == 0) figures.latency_seconds = latency;
    for (std::size_t i = 0; i < kSizes.size(); ++i) {
      const double bandwidth = stream(group, kSizes[i]);
      if (group.rank() == 0) figures.bandwidth[i] = bandwidth;
    }
    must(group.barrier("the end").ok());
  });
  for (const auto& text : found) {
    if (!text.empty()) fmt::print("{}\n", text);
  }
}

void print_header() {
  fmt::print("{:<22}{:>12}", "", "8 B, one way");
  for (const std::size_t size : kSizes) {
    fmt::print("{:>16}", fmt::format("{} KiB, GB/s", size >> 10U));
  }
  fmt::print("\n");
}

void print_row(std::string_view name, const Figures& figures, const Figures& limit) {
  fmt::print("{:<22}{:>9.2f} us", name, figures.latency_seconds * 1e6);
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    const double share = 100.0 * figures.bandwidth[i] / limit.bandwidth[i];
    fmt::print("{:>16}", fmt::format("{:.2f} ({:.0f} %)", figures.bandwidth[i] * 1e-9, share));
  }
  fmt::print("\n");
}

// Measures the transports whose name contains `wanted`.
int run(std::string_view wanted) {
  void* memory =
      ::mmap(nullptr, sizeof(Figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  PLEIAD_CHECK(memory != MAP_FAILED, "shared memory");
  auto& figures = *::new (memory) Figures();
  Figures copy;
  Figures tcp;
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    copy.bandwidth[i] = bench::memcpy_bandwidth(kSizes[i]);
    const bench::Loopback loopback = bench::measure_loopback(kSizes[i]);
    tcp.bandwidth[i] = loopback.bandwidth;
    tcp.latency_seconds = loopback.latency_seconds;
  }
  fmt::print("shares are of one thread's memcpy, for TCP of a plain TCP connection\n");
  print_header();
  print_row("memcpy", copy, copy);
  print_row("TCP socket", tcp, tcp);
  using Kind = Transport::Kind;
  const std::vector<Transport> transports{
      {.name = "local", .kind = Kind::Local},
      {.name = "local, spinning", .kind = Kind::Local, .spin = 2'000},
      {.name = "ucx, threads", .kind = Kind::UcxThreads},
      {.name = "ucx, processes", .kind = Kind::UcxProcesses},
      {.name = "ucx, spinning", .kind = Kind::UcxProcesses, .spin = 100},
      {.name = "ucx-tcp, processes", .kind = Kind::UcxProcesses, .ucx_transports = "tcp"},
      {.name = "ucx-tcp, spinning",
       .kind = Kind::UcxProcesses,
       .ucx_transports = "tcp",
       .spin = 100},
  };
  for (const Transport& transport : transports) {
    if (transport.name.find(wanted) == std::string::npos) continue;
    figures = {};
    measure(transport, figures);
    print_row(transport.name, figures, transport.ucx_transports == "tcp" ? tcp : copy);
  }
  ::munmap(memory, sizeof(Figures));
  return 0;
}

}  // namespace
}  // namespace pleiad

int main(int argc, char** argv) {
  return pleiad::run(argc > 1 ? argv[1] : "");
}
