// Decode steps of a model over ranks of one process (threads), for several ep_size, levels and rows
// a rank: time and bytes on the wire beside what plan/cost_model.h predicts from constants measured
// in the same program (read bandwidth, one core's products, latency and bandwidth between two
// threads).
//
// usage: ep_bench MODEL_FOLDER [DECODE_TOKENS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <fmt/core.h>

#include "apps/model_facts_reader.h"
#include "base/random.h"
#include "bench/kernels/machine.h"
#include "comm/local_group.h"
#include "kernels/gemm.h"
#include "plan/cost_model.h"
#include "tests/engine/engine_harness.h"

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

struct Link {
  double latency = 0.0;
  double bandwidth = 0.0;
};

// Between two threads that sleep when they wait.
Link measure_link() {
  constexpr int kRounds = 2000;
  constexpr std::size_t kBytes = std::size_t{1} << 20U;
  auto ends = comm::make_local_group(2, {});
  const SystemClock clock;
  Link link;
  std::vector<std::byte> mine(kBytes);
  std::vector<std::byte> theirs(kBytes);
  const auto play = [](comm::Group& group, std::span<std::byte> buffer, int rounds, bool first) {
    for (int i = 0; i < rounds; ++i) {
      if (first) group.send(1 - group.rank(), buffer);
      PLEIAD_CHECK(group.receive(1 - group.rank(), buffer, "bench").ok());
      if (!first) group.send(1 - group.rank(), buffer);
      PLEIAD_CHECK(group.wait_sends("bench").ok());
    }
  };
  std::thread other([&] {
    play(*ends[1], std::span(theirs).first(8), kRounds, false);
    play(*ends[1], theirs, kRounds / 10, false);
  });
  Nanoseconds begin = clock.now();
  play(*ends[0], std::span(mine).first(8), kRounds, true);
  link.latency = seconds_since(clock, begin) / (2.0 * kRounds);
  begin = clock.now();
  play(*ends[0], mine, kRounds / 10, true);
  const double each_way = seconds_since(clock, begin) / (2.0 * kRounds / 10);
  link.bandwidth = static_cast<double>(kBytes) / std::max(each_way - link.latency, 1e-9);
  other.join();
  return link;
}

struct Measured {
  double step_seconds = 0.0;
  double wire_bytes = 0.0;
};

double wire_bytes(const engine::RankSet& ranks) {
  double bytes = 0.0;
  for (const auto& engine : ranks.engines()) {
    const ep::EpStats& stats = engine->ep_stats();
    bytes += static_cast<double>(stats.dispatch_bytes.load() + stats.combine_bytes.load());
  }
  return bytes;
}

Measured decode(engine::EngineHarness& harness, std::size_t sequences, std::int32_t tokens) {
  Random random(1);
  const auto vocabulary = static_cast<std::uint64_t>(harness.engine->limits().vocabulary);
  std::vector<engine::RecordingSink> sinks(sequences);
  for (auto& sink : sinks) {
    std::vector<TokenId> prompt(16);
    for (TokenId& token : prompt) {
      token = static_cast<TokenId>(random.below(vocabulary));
    }
    PLEIAD_CHECK(
        harness.balancer
            ->submit({.prompt = std::move(prompt), .max_tokens = tokens, .ignore_eos = true}, sink)
            .ok()
    );
  }
  // From a moment when all decode to one when all still do.
  for (auto& sink : sinks) {
    sink.wait_for_tokens(2);
  }
  const Nanoseconds begin = harness.clock.now();
  const double bytes = wire_bytes(*harness.ranks);
  const std::uint64_t steps = harness.engine->status().steps;
  sinks.back().wait_for_tokens(static_cast<std::size_t>(tokens) - 4);
  const auto count = static_cast<double>(harness.engine->status().steps - steps);
  const Measured out{
      .step_seconds = seconds_since(harness.clock, begin) / count,
      .wire_bytes = (wire_bytes(*harness.ranks) - bytes) / count,
  };
  for (auto& sink : sinks) {
    sink.wait();
  }
  return out;
}

void compare(
    const engine::LoadSettings& load,
    const plan::ModelFacts& facts,
    const plan::MachineConstants& machine,
    std::int32_t tokens
) {
  engine::EngineHarness harness(load);
  const auto model = plan::CostModel::make(facts, load.layout, load.ep, machine).value();
  for (const std::int64_t rows : {1, 4}) {
    const auto sequences = static_cast<std::size_t>(rows * load.layout.dp_size);
    std::vector<Measured> runs;
    for (int i = 0; i < 3; ++i) {
      runs.push_back(decode(harness, sequences, tokens));
    }
    std::ranges::sort(runs, {}, &Measured::step_seconds);
    const Measured& median = runs[1];
    const auto predicted = model.even_step(load.ep.level, rows);
    fmt::print(
        "ep {:2}  level {}  {:2} rows a rank: step {:8.3f} ms, predicted {:8.3f} ({:+.0f} %); wire "
        "{:9.0f} "
        "B, predicted {:9.0f} ({:+.0f} %)\n",
        load.layout.ep_size,
        load.ep.level == plan::EpLevel::AllGather ? 1 : 2,
        rows,
        median.step_seconds * 1e3,
        predicted.seconds() * 1e3,
        100.0 * (predicted.seconds() / median.step_seconds - 1.0),
        median.wire_bytes,
        predicted.wire_bytes,
        median.wire_bytes == 0.0 ? 0.0 : 100.0 * (predicted.wire_bytes / median.wire_bytes - 1.0)
    );
  }
}

int main_with(const std::string& folder, std::int32_t tokens) {
  const auto facts = apps::read_model_facts({.model = folder});
  if (!facts.ok()) {
    fmt::print(stderr, "ep_bench: {}\n", facts.error().message);
    return 1;
  }
  const auto cores = static_cast<double>(std::thread::hardware_concurrency());
  const double bandwidth = read_bandwidth(shared_pool());
  const double products = product_rate();
  const Link link = measure_link();
  fmt::print(
      "{}: read {:.1f} GB/s, products {:.1f} GFLOP/s a core, link {:.1f} us, {:.2f} GB/s\n",
      facts->name,
      bandwidth * 1e-9,
      products * 1e-9,
      link.latency * 1e6,
      link.bandwidth * 1e-9
  );
  for (const std::int32_t ep : {1, 2, 4, 8}) {
    for (const auto level : {plan::EpLevel::AllGather, plan::EpLevel::AllToAll}) {
      if (ep == 1 && level == plan::EpLevel::AllToAll) continue;
      engine::LoadSettings load{
          .model = folder,
          .dtype = engine::ComputeChoice::BFloat16,
          .max_model_len = 512,
          .max_num_seqs = 16,
          .max_num_batched_tokens = 64,
          .chunked_prefill_size = 64,
          .kv_cache_bytes = std::size_t{512} << 20U,
          .prefix_cache = false,
          .model_name = "bench",
          .layout = {.dp_size = ep, .ep_size = ep},
      };
      load.ep.level = level;
      // Ranks share the processor and the memory behind it.
      const double share = std::min(1.0, cores / ep);
      const plan::MachineConstants machine{
          .memory_bytes_per_second = bandwidth / ep,
          .flops_per_second = products * share,
          .cores_per_rank = std::max(1, static_cast<std::int32_t>(cores) / ep),
          .link_latency_seconds = link.latency / share,
          .link_bytes_per_second = link.bandwidth * share,
      };
      compare(load, *facts, machine, tokens);
    }
  }
  return 0;
}

}  // namespace
}  // namespace pleiad::bench

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: ep_bench MODEL_FOLDER [DECODE_TOKENS]\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const int tokens = argc == 3 ? std::atoi(argv[2]) : 64;
  return pleiad::bench::main_with(argv[1], std::clamp(tokens, 16, 400));
}
