// Attention over a paged cache on one GPU: time of a layer, arithmetic per second of prompts, cache
// bytes per second of decoding. Run alone on the machine: attention_gpu_bench [FILTER], where
// FILTER is part of a trial's name.
#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "base/random.h"
#include "device/cuda/device_buffer.h"
#include "kernels/cuda/paged_attention.h"

namespace pleiad::kernels::cuda {
namespace {

using device::BF16;
using device::DType;
using device::cuda::DeviceBuffer;
using device::cuda::Event;
using device::cuda::Stream;

struct Trial {
  const char* name = "";
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // 0: latent
  std::int64_t width = 128;
  std::int64_t sequences = 1;
  std::int64_t first = 0;  // rows of each sequence
  std::int64_t last = 0;
};

constexpr std::int64_t kLatent = 512;
constexpr std::int64_t kRoped = 64;
constexpr std::size_t kCacheBytes = std::size_t{6} << 30U;

void check(cudaError_t status) {
  PLEIAD_CHECK(status == cudaSuccess, cudaGetErrorString(status));
}

template <typename T>
DeviceBuffer on_gpu(const std::vector<T>& values) {
  auto memory = DeviceBuffer::allocate(values.size() * sizeof(T), "a benchmark").value();
  check(cudaMemcpy(memory.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice)
  );
  return memory;
}

// Random numbers of about one in magnitude.
DeviceBuffer noise(std::size_t bytes) {
  constexpr std::size_t kPatternBytes = std::size_t{1} << 24U;
  Random random(1);
  std::vector<BF16> pattern(kPatternBytes / sizeof(BF16));
  for (BF16& value : pattern) {
    const auto step = static_cast<float>(random.below(4001)) - 2000.0F;
    value = device::float_to_bf16(step * 1e-3F);
  }
  auto memory = DeviceBuffer::allocate(bytes, "a benchmark").value();
  for (std::size_t at = 0; at < bytes; at += kPatternBytes) {
    check(cudaMemcpy(
        memory.data() + at,
        pattern.data(),
        std::min(kPatternBytes, bytes - at),
        cudaMemcpyHostToDevice
    ));
  }
  return memory;
}

struct Timing {
  double median_us = 0;
  double least_us = 0;
  double most_us = 0;
};

// Replays a graph of `launches` and divides.
template <class Enqueue>
Timing time_graph(Stream& stream, int launches, int replays, const Enqueue& enqueue) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) {
    enqueue(i);
  }
  check(cudaStreamEndCapture(stream.handle(), &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  auto begin = Event::create().value();
  auto end = Event::create().value();
  std::vector<double> times;
  for (int i = -2; i < replays; ++i) {
    begin.record(stream).value();
    check(cudaGraphLaunch(executable, stream.handle()));
    end.record(stream).value();
    const double us = end.milliseconds_since(begin).value() * 1e3 / launches;
    if (i >= 0) times.push_back(us);
  }
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));
  std::ranges::sort(times);
  return {times[times.size() / 2], times.front(), times.back()};
}

// What a trial's rows see: tokens, summed over rows, and the cache's tokens that are read.
struct Work {
  double seen = 0;
  double tokens = 0;
};

class Bench {
 public:
  explicit Bench(std::string_view filter) : filter_(filter) {}

  void run(const Trial& trial) {
    if (std::string_view(trial.name).find(filter_) == std::string_view::npos) return;
    const bool latent = trial.kv_heads == 0;
    AttentionPages pages = latent ? latent_pages(kLatent, kRoped)
                                  : grouped_pages(trial.kv_heads, trial.width, trial.width);
    pages.dtype = DType::BF16;
    pages.page_stride = static_cast<std::size_t>(pages.line * kPageTokens) * sizeof(BF16);
    const std::int64_t pages_each = trial.last / kPageTokens + 1;
    const std::int64_t rows = trial.sequences * (trial.last - trial.first + 1);
    Work work;
    const RowPlaces places = place(trial, pages_each, work);
    const std::size_t layer =
        pages.page_stride * static_cast<std::size_t>(pages_each * trial.sequences);
    const auto layers = static_cast<int>(std::clamp<std::size_t>(kCacheBytes / layer, 1, 32));
    PLEIAD_CHECK(layer <= kCacheBytes);
    PagedAttentionTask task{
        .rows = rows,
        .heads = trial.heads,
        .scale = 0.08F,
        .places = places,
        .pages = pages,
        .scratch_rows = std::min<std::int64_t>(rows, 128)};
    set_queries(task, latent, trial.width);
    task.plan = attention_plan(attention_shape(task));
    const DeviceBuffer scratch =
        DeviceBuffer::allocate(
            attention_scratch_floats(
                task.plan, task.scratch_rows, trial.heads, pages.values.width
            ) * sizeof(float),
            "a benchmark"
        )
            .value();
    const DeviceBuffer list =
        DeviceBuffer::allocate(attention_work_bytes(task.plan, rows), "a benchmark").value();
    task.scratch = scratch.as<float>();
    task.work = attention_work_at(list.data(), task.plan, rows);
    const auto make_list = [&](int) {
      list_attention_work(
          stream_,
          {.rows = rows,
           .places = places,
           .plan = task.plan,
           .scratch_rows = task.scratch_rows,
           .work = task.work}
      );
    };
    make_list(0);
    stream_.wait("a list").value();
    const Timing listing = time_graph(stream_, 4, 5, make_list);
    const Timing timing = time_graph(stream_, std::max(layers, 2), kReplays, [&](int i) {
      task.pages.base = cache_.as<std::byte>() + static_cast<std::size_t>(i % layers) * layer;
      paged_attention(stream_, task);
    });
    stream_.wait(trial.name).value();
    const auto both = static_cast<double>(pages.keys.width + pages.values.width);
    const double flops = 2 * work.seen * both * static_cast<double>(trial.heads);
    const double bytes = work.tokens * static_cast<double>(pages.line) * sizeof(BF16);
    std::printf(
        "%-30s %9.1f [%9.1f, %9.1f] us  %7.1f TFLOP/s  %7.1f GB/s  (list %5.1f us)\n",
        trial.name,
        timing.median_us,
        timing.least_us,
        timing.most_us,
        flops / timing.median_us * 1e-6,
        bytes / timing.median_us * 1e-3,
        listing.median_us
    );
    std::fflush(stdout);
  }

 private:
  static constexpr int kReplays = 10;

  // Sequences whose pages lie scattered.
  RowPlaces place(const Trial& trial, std::int64_t pages_each, Work& work) {
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> table_of;
    std::vector<std::uint32_t> tables(static_cast<std::size_t>(pages_each * trial.sequences));
    for (std::size_t i = 0; i < tables.size(); ++i) {
      tables[i] = static_cast<std::uint32_t>(i);
    }
    Random random(2);
    for (std::size_t i = tables.size() - 1; i > 0; --i) {
      std::swap(tables[i], tables[random.below(i + 1)]);
    }
    for (std::int64_t s = 0; s < trial.sequences; ++s) {
      work.tokens += static_cast<double>(trial.last + 1);
      for (std::int64_t position = trial.first; position <= trial.last; ++position) {
        positions.push_back(static_cast<std::int32_t>(position));
        table_of.push_back(static_cast<std::int32_t>(s * pages_each));
        work.seen += static_cast<double>(position + 1);
      }
    }
    positions_ = on_gpu(positions);
    table_of_ = on_gpu(table_of);
    tables_ = on_gpu(tables);
    return {
        .positions = positions_.as<std::int32_t>(),
        .table_of = table_of_.as<std::int32_t>(),
        .tables = tables_.as<std::uint32_t>()};
  }

  void set_queries(PagedAttentionTask& task, bool latent, std::int64_t width) const {
    const std::int64_t first = latent ? kLatent : width;
    const std::int64_t second = latent ? kRoped : 0;
    const auto heads = [&](std::int64_t part, const DeviceBuffer& memory) {
      return QueryHeads{
          .rows = {.data = memory.data(), .stride = task.heads * part, .dtype = DType::BF16},
          .head_stride = part,
          .width = part};
    };
    task.query[0] = heads(first, query_);
    if (latent) task.query[1] = heads(second, roped_);
    task.out = {.data = out_.data(), .stride = task.heads * first, .dtype = DType::BF16};
  }

  std::string_view filter_;
  Stream stream_ = Stream::create({}).value();
  DeviceBuffer cache_ = noise(kCacheBytes);
  DeviceBuffer query_ = noise(std::size_t{1} << 28U);
  DeviceBuffer roped_ = noise(std::size_t{1} << 26U);
  DeviceBuffer out_ = DeviceBuffer::allocate(std::size_t{1} << 28U, "a benchmark").value();
  DeviceBuffer positions_;
  DeviceBuffer table_of_;
  DeviceBuffer tables_;
};

// Grouped as Qwen3-30B-A3B (32 heads over 4), latent as DeepSeek-V2-Lite (16) and V3 (128).
constexpr Trial kTrials[] = {
    {"prompt grouped 8192", 32, 4, 128, 1, 0, 8191},
    {"prompt grouped 2048", 32, 4, 128, 1, 0, 2047},
    {"prompt grouped 16 x 512", 32, 4, 128, 16, 0, 511},
    {"prompt grouped 512 at 8192", 32, 4, 128, 1, 8192, 8703},
    {"prompt grouped 64 wide 8192", 64, 8, 64, 1, 0, 8191},
    {"decode grouped b1 512", 32, 4, 128, 1, 511, 511},
    {"decode grouped b4 512", 32, 4, 128, 4, 511, 511},
    {"decode grouped b8 512", 32, 4, 128, 8, 511, 511},
    {"decode grouped b32 512", 32, 4, 128, 32, 511, 511},
    {"decode grouped b128 512", 32, 4, 128, 128, 511, 511},
    {"decode grouped b1 8192", 32, 4, 128, 1, 8191, 8191},
    {"decode grouped b32 8192", 32, 4, 128, 32, 8191, 8191},
    {"decode grouped b128 8192", 32, 4, 128, 128, 8191, 8191},
    {"prompt latent 16 8192", 16, 0, 0, 1, 0, 8191},
    {"decode latent 16 b1 512", 16, 0, 0, 1, 511, 511},
    {"decode latent 16 b8 512", 16, 0, 0, 8, 511, 511},
    {"decode latent 16 b32 512", 16, 0, 0, 32, 511, 511},
    {"decode latent 16 b128 512", 16, 0, 0, 128, 511, 511},
    {"decode latent 16 b1 8192", 16, 0, 0, 1, 8191, 8191},
    {"decode latent 16 b128 8192", 16, 0, 0, 128, 8191, 8191},
    {"decode latent 128 b1 8192", 128, 0, 0, 1, 8191, 8191},
    {"decode latent 128 b32 8192", 128, 0, 0, 32, 8191, 8191},
    {"decode latent 128 b128 8192", 128, 0, 0, 128, 8191, 8191},
};

}  // namespace
}  // namespace pleiad::kernels::cuda

int main(int argc, char** argv) {
  pleiad::kernels::cuda::Bench bench(argc > 1 ? argv[1] : "");
  for (const auto& trial : pleiad::kernels::cuda::kTrials) {
    bench.run(trial);
  }
  return 0;
}
