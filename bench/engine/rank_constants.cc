#include "bench/engine/rank_constants.h"

#include <algorithm>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "bench/kernels/machine.h"
#include "comm/local_group.h"
#include "device/buffer.h"
#include "kernels/gemm.h"

namespace pleiad::bench {
namespace {

double seconds_since(const Clock& clock, Nanoseconds begin) {
  return to_seconds(clock.now() - begin);
}

// One core's rate on products like the experts', in operations per second.
double product_rate() {
  constexpr std::int64_t kSize = 2048;
  constexpr std::int64_t kRows = 48;
  const std::vector<float> plain(kSize * kSize, 0.5F);
  const std::vector<float> x(kRows * kSize, 0.5F);
  std::vector<float> y(kRows * kSize);
  auto memory = device::Buffer::allocate(
                    kernels::PackedMatrix::bytes(kSize, kSize, kernels::Compute::BFloat16)
  )
                    .value();
  const kernels::MatrixSource source{
      .tensor = {
          .bytes = std::as_bytes(std::span(plain)),
          .dtype = device::DType::F32,
          .shape = {.extents = {kSize, kSize}, .rank = 2},
      }};
  const auto weight = kernels::PackedMatrix::pack(
                          {&source, 1}, kernels::Compute::BFloat16, {memory.data(), memory.size()}
  )
                          .value();
  device::ThreadPool pool(1);
  const kernels::Context context{
      .pool = &pool, .isa = device::detect_cpu_isa(), .compute = kernels::Compute::BFloat16};
  const SystemClock clock;
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const Nanoseconds begin = clock.now();
    kernels::gemm(
        context,
        {.x = x.data(),
         .x_stride = kSize,
         .rows = kRows,
         .weight = &weight,
         .y = y.data(),
         .y_stride = kSize}
    );
    best = std::min(best, seconds_since(clock, begin));
  }
  return 2.0 * kRows * kSize * kSize / best;
}

using Ends = std::vector<std::unique_ptr<comm::Group>>;

// Each in turn sends `bytes` and receives as many, `rounds` times; seconds of one way.
double play(Ends& ends, std::size_t bytes, int rounds) {
  const auto side = [bytes, rounds](comm::Group& group) {
    std::vector<std::byte> buffer(bytes);
    const comm::Rank peer = 1 - group.rank();
    for (int i = 0; i < rounds; ++i) {
      if (group.rank() == 0) group.send(peer, buffer);
      PLEIAD_CHECK(group.receive(peer, buffer, "bench").ok());
      if (group.rank() == 1) group.send(peer, buffer);
      PLEIAD_CHECK(group.wait_sends("bench").ok());
    }
  };
  const SystemClock clock;
  std::thread other([&] { side(*ends[1]); });
  const Nanoseconds begin = clock.now();
  side(*ends[0]);
  const double seconds = seconds_since(clock, begin) / (2.0 * rounds);
  other.join();
  return seconds;
}

// Seconds of one core for a message, sent and received: a thread that has both ends never waits.
double message_cost(Ends& ends) {
  constexpr int kRounds = 20000;
  std::vector<std::byte> sent(64);
  std::vector<std::byte> received(64);
  const SystemClock clock;
  const Nanoseconds begin = clock.now();
  for (int i = 0; i < kRounds; ++i) {
    ends[0]->send(1, sent);
    PLEIAD_CHECK(ends[1]->receive(0, received, "bench").ok());
    PLEIAD_CHECK(ends[0]->wait_sends("bench").ok());
  }
  return seconds_since(clock, begin) / kRounds;
}

}  // namespace

plan::MachineConstants RankConstants::on_one_core() const {
  return {
      .memory_bytes_per_second = core_read_bandwidth,
      .flops_per_second = core_flops,
      .cores_per_rank = 1,
      .step_seconds = step_seconds,
      .row_seconds = row_seconds,
      .message_seconds = message_seconds,
      .link_latency_seconds = latency_seconds,
      .link_bytes_per_second = link_bandwidth,
  };
}

plan::MachineConstants RankConstants::of_ranks(std::int32_t ranks) const {
  const double share = cores / ranks;  // of cores, that a rank has
  plan::MachineConstants out = on_one_core();
  out.memory_bytes_per_second = read_bandwidth / ranks;
  out.flops_per_second *= share;
  out.step_seconds /= share;
  out.row_seconds /= share;
  out.message_seconds /= std::min(1.0, share);
  out.link_bytes_per_second *= std::min(1.0, share);
  return out;
}

RankConstants measure_rank_constants() {
  constexpr std::size_t kLargeMessage = std::size_t{1} << 20U;
  device::ThreadPool one_core(1);
  auto ends = comm::make_local_group(2, {});
  RankConstants out{
      .cores = static_cast<double>(std::thread::hardware_concurrency()),
      .read_bandwidth = read_bandwidth(shared_pool()),
      .core_read_bandwidth = read_bandwidth(one_core),
      .core_flops = product_rate(),
      .message_seconds = message_cost(ends),
      .latency_seconds = play(ends, 8, 2000),
  };
  const double large = play(ends, kLargeMessage, 200);
  out.link_bandwidth =
      static_cast<double>(kLargeMessage) / std::max(large - out.latency_seconds, 1e-9);
  return out;
}

}  // namespace pleiad::bench
