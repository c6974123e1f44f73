// Grouped products on one GPU: time, weight bytes per second, arithmetic, and the share of the
// goal. Run alone on the machine: grouped_gemm_bench [bf16|fp8] [all]. `all` times every tile, not
// only the chosen.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "bench/cuda/graph_timing.h"
#include "device/cuda/gpus.h"
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/grouped_gemm_plan.h"
#include "tests/kernels/cuda/grouped_reference.h"
#include "tests/kernels/cuda/grouped_trial.h"

namespace pleiad::kernels::cuda {
namespace {

// What is routed: the same number of rows to every expert, or the top experts of random tokens.
struct Load {
  std::int64_t rows_per_expert = 0;
  std::int64_t tokens = 0;
  std::int32_t top = 0;
};

struct Trial {
  const char* name = "";
  GroupedShape shape;
  Load load;
  double goal_terabytes = 0;  // per second; 0: none
  double goal_teraflops = 0;
  bool starts_settled = false;  // as for the second product of an expert layer
};

struct Routed {
  std::vector<std::int32_t> starts;
  std::int64_t rows = 0;
  std::int64_t experts_hit = 0;
};

Routed route(const Trial& trial, std::mt19937& random) {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(trial.shape.experts));
  for (auto& count : counts) {
    count = static_cast<std::int32_t>(trial.load.rows_per_expert);
  }
  std::vector<std::size_t> order(counts.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  for (std::int64_t token = 0; token < trial.load.tokens; ++token) {
    for (std::int32_t i = 0; i < trial.load.top; ++i) {
      const auto at = static_cast<std::size_t>(i);
      std::uniform_int_distribution<std::size_t> pick(at, order.size() - 1);
      std::swap(order[at], order[pick(random)]);
      ++counts[order[at]];
    }
  }
  Routed out{.starts = starts_of(counts), .rows = 0, .experts_hit = 0};
  out.rows = out.starts.back();
  for (const auto count : counts) {
    out.experts_hit += count > 0 ? 1 : 0;
  }
  return out;
}

// Device memory that all trials use one after the other.
struct Arena {
  device::cuda::DeviceBuffer weights;
  device::cuda::DeviceBuffer x;
  device::cuda::DeviceBuffer scales;
  device::cuda::DeviceBuffer out;
  device::cuda::DeviceBuffer index;
  device::cuda::DeviceBuffer clock;
};

// The multiprocessors' clock in GHz as it is right behind the work on `stream`.
double clock_now(device::cuda::Stream& stream, const Arena& arena) {
  measure_clock(stream, arena.clock.as<double>());
  return from_gpu<double>(stream, arena.clock.data(), 1)[0];
}

void time_trial(
    device::cuda::Stream& stream,
    const Arena& arena,
    const Trial& trial,
    const GroupedTile& tile,
    bool gathered
) {
  constexpr int kSets = 12;
  std::mt19937 random(1);
  std::vector<device::cuda::DeviceBuffer> starts;
  Routed routed;
  double hit = 0;
  for (int set = 0; set < kSets; ++set) {
    routed = route(trial, random);
    hit += static_cast<double>(routed.experts_hit) / kSets;
    starts.push_back(on_gpu(stream, routed.starts));
  }
  GroupedShape shape = trial.shape;
  shape.rows_max = routed.rows;
  shape.gathered = gathered;
  if (!grouped_tile_fits(shape, tile)) return;
  const float* scales =
      shape.format == GroupedFormat::Fp8Blocks ? arena.scales.as<float>() : nullptr;
  GroupedGemmTask task{
      .shape = shape,
      .weights = {.packed = arena.weights.data(), .scales = scales},
      .x = arena.x.data(),
      .x_rows = routed.rows,
      .x_scales = scales,
      .x_scale_stride = routed.rows,
      .x_index = gathered ? arena.index.as<std::int32_t>() : nullptr,
      .out = arena.out.data(),
      .overlap_launch = true,
      .starts_settled = trial.starts_settled};
  const double flops = 2.0 * static_cast<double>(routed.rows) * shape.outputs * shape.inputs;
  const double bytes =
      hit * static_cast<double>(grouped_packed_bytes(shape.format, 1, shape.outputs, shape.inputs));
  const bool long_ones = flops > 1e11 || bytes > 1e9;
  const bench::Timing time =
      bench::time_graph(stream, long_ones ? 4 : kSets * 4, long_ones ? 9 : 15, [&](int i) {
        task.starts = starts[static_cast<std::size_t>(i % kSets)].as<std::int32_t>();
        grouped_gemm(stream, task, tile);
      });
  stream.result().value();
  const double gigahertz = clock_now(stream, arena);
  const double terabytes = bytes / time.median_us * 1e-6;
  const double teraflops = flops / time.median_us * 1e-6;
  std::printf(
      "%-18s%s %6lld rows %5.1f hit  tile %3dx%3d/%d%s  %9.2f us (%.2f-%.2f)  %5.2f TB/s %7.1f "
      "TFLOP/s  %.2f GHz",
      trial.name,
      trial.starts_settled ? "*" : " ",
      static_cast<long long>(routed.rows),
      hit,
      tile.outputs,
      tile.rows,
      tile.cluster,
      gathered ? "g" : " ",
      time.median_us,
      time.least_us,
      time.most_us,
      terabytes,
      teraflops,
      gigahertz
  );
  if (trial.goal_terabytes > 0)
    std::printf("  %3.0f%% of goal", 100 * terabytes / trial.goal_terabytes);
  if (trial.goal_teraflops > 0)
    std::printf("  %3.0f%% of goal", 100 * teraflops / trial.goal_teraflops);
  std::printf("\n");
  std::fflush(stdout);
}

std::vector<Trial> trials(GroupedFormat format) {
  const double big = format == GroupedFormat::BFloat16 ? 725.0 : 1200.0;
  const GroupedShape up{
      .experts = 32,
      .outputs = 4096,
      .inputs = 7168,
      .format = format,
      .output = GroupedOutput::SwiGlu};
  const GroupedShape down{.experts = 32, .outputs = 7168, .inputs = 2048, .format = format};
  std::vector<Trial> out;
  for (const std::int64_t rows : {1, 8, 64, 256, 1024}) {
    const double bandwidth = rows <= 64 ? 3.7 : 0.0;
    const double arithmetic = rows > 64 ? big : 0.0;
    out.push_back({"V3 up 7168>4096", up, {.rows_per_expert = rows}, bandwidth, arithmetic});
    out.push_back({"V3 down 2048>7168", down, {.rows_per_expert = rows}, bandwidth, arithmetic});
  }
  struct Model {
    const char* up_name;
    const char* down_name;
    std::int32_t experts, top, hidden, width;
  };
  for (const Model& model :
       {Model{"Qwen3-30B up", "Qwen3-30B down", 128, 8, 2048, 768},
        Model{"V2-Lite up", "V2-Lite down", 64, 6, 2048, 1408}}) {
    for (const std::int64_t tokens : {1, 32, 128, 8192}) {
      const Load load{.tokens = tokens, .top = model.top};
      out.push_back(
          {model.up_name,
           {.experts = model.experts,
            .outputs = 2 * model.width,
            .inputs = model.hidden,
            .format = format,
            .output = GroupedOutput::SwiGlu},
           load}
      );
      out.push_back(
          {model.down_name,
           {.experts = model.experts,
            .outputs = model.hidden,
            .inputs = model.width,
            .format = format},
           load,
           0.0,
           0.0,
           true}
      );
    }
  }
  return out;
}

int run(GroupedFormat format, bool all_tiles) {
  const auto gpu = device::cuda::find_gpu(0);
  if (!gpu.ok()) {
    std::printf("%s\n", gpu.error().message.c_str());
    return 77;
  }
  auto stream = device::cuda::Stream::create({}).value();
  constexpr std::int64_t kRows = 65536;
  const Arena arena{
      .weights = gpu_bytes(32LL * 4096 * 7168 * 2),
      .x = gpu_bytes(kRows * 7168 * 2),
      .scales = gpu_bytes(kRows * 64 * 4),
      .out = gpu_bytes(kRows * 7168 * 2),
      .index = gpu_bytes(kRows * 4),
      .clock = gpu_bytes(8)};
  if (format == GroupedFormat::BFloat16) {
    fill_bf16(stream, arena.weights.data(), 32LL * 4096 * 7168, 1);
    fill_bf16(stream, arena.x.data(), kRows * 7168, 2);
  } else {
    fill_fp8(stream, arena.weights.data(), 32LL * 4096 * 7168, 1);
    fill_fp8(stream, arena.x.data(), kRows * 7168, 2);
  }
  fill_floats(stream, arena.scales.as<float>(), kRows * 64, {0.5F, 2.0F}, 3);
  std::vector<std::int32_t> index(kRows);
  for (std::size_t i = 0; i < index.size(); ++i) {
    index[i] = static_cast<std::int32_t>(i * 7919 % 8192);
  }
  stream.copy_to_device(arena.index.data(), index.data(), index.size() * 4);
  stream.wait("the bench's data").value();
  std::printf("%s, %d multiprocessors\n", gpu->name.c_str(), gpu->multiprocessors);
  for (const Trial& trial : trials(format)) {
    std::mt19937 random(1);
    GroupedShape shape = trial.shape;
    shape.rows_max = route(trial, random).rows;
    for (const bool gathered : {false, true}) {
      shape.gathered = gathered;
      std::vector<GroupedTile> tiles{grouped_tile(shape, gpu->multiprocessors)};
      if (all_tiles) {
        tiles.insert(tiles.end(), {{64, 1, 128}, {128, 1, 256}, {256, 1, 128}, {256, 2, 128}});
      }
      for (std::size_t i = 0; i < tiles.size(); ++i) {
        const bool is_new = i == 0 || !(tiles[i] == tiles[0]);
        if (is_new && grouped_tile_fits(shape, tiles[i])) {
          time_trial(stream, arena, trial, tiles[i], gathered);
        }
      }
    }
  }
  stream.wait("the bench").value();
  return 0;
}

}  // namespace
}  // namespace pleiad::kernels::cuda

int main(int argc, char** argv) {
  using pleiad::kernels::cuda::GroupedFormat;
  bool all_tiles = false;
  GroupedFormat format = GroupedFormat::BFloat16;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "all") all_tiles = true;
    if (std::string_view(argv[i]) == "fp8") format = GroupedFormat::Fp8Blocks;
  }
  return pleiad::kernels::cuda::run(format, all_tiles);
}
