#include "bench/kernels/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>

#include <benchmark/benchmark.h>

#include "device/buffer.h"
#include "device/cpu_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pleiad::bench {
namespace {

constexpr int kPasses = 5;

template <typename Body>
double best_seconds(Body body) {
  double best = 1e30;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::min(best, seconds.count());
  }
  return best;
}

#if defined(__x86_64__)

constexpr int kChains = 10;
constexpr int kRounds = 1'000'000;

// Reads `bytes` (a multiple of 256) and keeps the bits alive.
[[gnu::target("avx2")]] void read_all(const std::byte* begin, std::size_t bytes) {
  __m256i lanes[8] = {};
  for (std::size_t i = 0; i < bytes; i += 256) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      const auto* at = reinterpret_cast<const __m256i*>(begin + i + lane * 32);
      lanes[lane] = _mm256_or_si256(lanes[lane], _mm256_load_si256(at));
    }
  }
  benchmark::DoNotOptimize(lanes);
}

// Each returns the operations it did.
[[gnu::target("avx2,fma")]] double multiply_add_256() {
  __m256 chains[kChains];
  for (auto& chain : chains) {
    chain = _mm256_set1_ps(1.0F);
  }
  const __m256 factor = _mm256_set1_ps(0.999F);
  for (int round = 0; round < kRounds; ++round) {
    for (auto& chain : chains) {
      chain = _mm256_fmadd_ps(chain, factor, factor);
    }
  }
  benchmark::DoNotOptimize(chains);
  return 2.0 * 8 * kChains * kRounds;
}

[[gnu::target("avx512f")]] double multiply_add_512() {
  __m512 chains[kChains];
  for (auto& chain : chains) {
    chain = _mm512_set1_ps(1.0F);
  }
  const __m512 factor = _mm512_set1_ps(0.999F);
  for (int round = 0; round < kRounds; ++round) {
    for (auto& chain : chains) {
      chain = _mm512_fmadd_ps(chain, factor, factor);
    }
  }
  benchmark::DoNotOptimize(chains);
  return 2.0 * 16 * kChains * kRounds;
}

double measure_read_bandwidth(device::ThreadPool& pool) {
  constexpr std::size_t kBytes = std::size_t{512} << 20U;
  constexpr std::size_t kChunk = std::size_t{1} << 20U;
  device::Buffer buffer = device::Buffer::allocate(kBytes).value();
  std::fill_n(buffer.data(), kBytes, std::byte{1});
  const double seconds = best_seconds([&] {
    pool.parallel_for(kBytes / kChunk, [&](std::size_t chunk) {
      read_all(buffer.data() + chunk * kChunk, kChunk);
    });
  });
  return static_cast<double>(kBytes) / seconds;
}

double measure_fma_peak(device::ThreadPool& pool) {
  const bool wide = device::detect_cpu_isa() >= device::CpuIsa::Avx512;
  const auto workers = static_cast<std::size_t>(pool.workers());
  double operations = 0;
  const double seconds = best_seconds([&] {
    pool.parallel_for(workers, [&](std::size_t index) {
      const double done = wide ? multiply_add_512() : multiply_add_256();
      if (index == 0) operations = done;
    });
  });
  return operations * static_cast<double>(workers) / seconds;
}

#endif

}  // namespace

double read_bandwidth(device::ThreadPool& pool) {
#if defined(__x86_64__)
  if (device::detect_cpu_isa() < device::CpuIsa::Avx2) return 0;
  static std::map<int, double> bandwidths;  // by workers
  const auto [at, is_new] = bandwidths.try_emplace(pool.workers(), 0.0);
  if (is_new) at->second = measure_read_bandwidth(pool);
  return at->second;
#else
  return 0;
#endif
}

double fma_peak(device::ThreadPool& pool) {
#if defined(__x86_64__)
  if (device::detect_cpu_isa() < device::CpuIsa::Avx2) return 0;
  static const double peak = measure_fma_peak(pool);
  return peak;
#else
  return 0;
#endif
}

device::ThreadPool& shared_pool() {
  static device::ThreadPool pool(device::available_processors());
  return pool;
}

}  // namespace pleiad::bench
