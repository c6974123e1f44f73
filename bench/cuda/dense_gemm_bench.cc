// Dense products on one GPU as decoding and prompts of two models have them: cuBLASLt's kernels
// beside this program's kernel for few rows and its grouped product with one expert, and whether
// they give the same bits.
// usage: dense_gemm_bench
#include <cstdio>
#include <cstring>
#include <vector>

#include "bench/cuda/graph_timing.h"
#include "device/cuda/device_buffer.h"
#include "device/cuda/gpus.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/few_rows_gemm.h"
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/grouped_gemm_plan.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using device::cuda::DeviceBuffer;

struct Case {
  const char* name = "";
  std::int32_t outputs = 0;
  std::int32_t inputs = 0;
};

constexpr Case kCases[] = {
    {"Qwen3-30B qkv", 5120, 2048},
    {"Qwen3-30B out", 2048, 4096},
    {"V2-Lite out", 2048, 2048},
    {"V2-Lite shared up", 5632, 2048},
    {"V2-Lite shared down", 2048, 2816},
    {"DeepSeek-V3 out", 7168, 16384},
};
constexpr std::int64_t kRowsMax = 8192;
constexpr std::int64_t kCopiesBytes = std::int64_t{1} << 30;

DeviceBuffer take(std::int64_t bytes) {
  return DeviceBuffer::allocate(static_cast<std::size_t>(bytes), "a bench").value();
}

DeviceMatrix matrix_at(const std::byte* codes, std::int64_t outputs, std::int64_t inputs) {
  return {
      .codes = codes,
      .outputs = outputs,
      .inputs = inputs,
      .row_bytes = inputs * 2,
      .compute = Compute::BFloat16,
  };
}

class Bench {
 public:
  explicit Bench(const Case& shape)
      : shape_(shape),
        bytes_(std::int64_t{2} * shape.outputs * shape.inputs),
        copies_(std::max<std::int64_t>(kCopiesBytes / bytes_, 2)),
        stored_(take(bytes_ * copies_)),
        packed_(take(bytes_ * copies_)),
        x_(take(kRowsMax * shape.inputs * 2)),
        y_(take(kRowsMax * shape.outputs * 4)),
        starts_(take(8)) {
    fill_random(
        stream_, matrix_at(stored_.data(), copies_ * shape.outputs, shape.inputs), 0.05F, 1
    );
    fill_random(stream_, matrix_at(x_.data(), kRowsMax, shape.inputs), 1.0F, 2);
    pack_grouped_weights(
        stream_,
        {.stored = stored_.data(),
         .packed = packed_.data(),
         .experts = copies_,
         .outputs = shape.outputs,
         .inputs = shape.inputs}
    );
    plan_ = dense_
                .prepare(
                    {.outputs = shape.outputs,
                     .inputs = shape.inputs,
                     .x_stride = shape.inputs,
                     .y_stride = shape.outputs,
                     .y_dtype = DType::F32},
                    kRowsMax
                )
                .value();
  }

  void run(std::int64_t rows) {
    const std::vector<std::int32_t> starts = {0, static_cast<std::int32_t>(rows)};
    stream_.copy_to_device(starts_.data(), starts.data(), 8);
    stream_.wait("starts").value();
    const auto expected = results(rows, Kind::Dense);
    const auto launches = static_cast<int>(std::min<std::int64_t>(copies_, rows > 512 ? 4 : 48));
    for (const Kind kind : {Kind::Dense, Kind::FewRows, Kind::Grouped}) {
      if (kind == Kind::FewRows && rows > kFewRowsMax) continue;
      const bool equal = results(rows, kind) == expected;
      const auto time =
          bench::time_graph(stream_, launches, 15, [&](int i) { enqueue(i, rows, kind); });
      print(rows, kind, time, equal);
    }
  }

 private:
  enum class Kind { Dense, FewRows, Grouped };

  static const char* name_of(Kind kind) {
    switch (kind) {
      case Kind::Dense:
        return "as chosen";
      case Kind::FewRows:
        return "few rows";
      case Kind::Grouped:
        return "grouped";
    }
    return "";
  }

  void enqueue(std::int64_t copy, std::int64_t rows, Kind kind) {
    const std::int64_t at = copy * bytes_;
    const DeviceMatrix weight = matrix_at(stored_.data() + at, shape_.outputs, shape_.inputs);
    const DeviceRows x{.data = x_.data(), .stride = shape_.inputs, .dtype = DType::BF16};
    const DeviceRows y{.data = y_.data(), .stride = shape_.outputs, .dtype = DType::F32};
    if (kind == Kind::Dense) {
      dense_.run(stream_, plan_, rows, weight, x, y);
      return;
    }
    if (kind == Kind::FewRows) {
      few_rows_gemm(stream_, {.x = x, .rows = rows, .weight = weight, .y = y});
      return;
    }
    grouped_gemm(
        stream_,
        {.shape =
             {.experts = 1,
              .outputs = shape_.outputs,
              .inputs = shape_.inputs,
              .rows_max = rows,
              .output = GroupedOutput::Float32},
         .weights = {.packed = packed_.data() + at},
         .x = x_.data(),
         .x_rows = rows,
         .starts = starts_.as<std::int32_t>(),
         .out = y_.data(),
         .overlap_launch = true,
         .starts_settled = true}
    );
  }

  std::vector<float> results(std::int64_t rows, Kind kind) {
    std::vector<float> out(static_cast<std::size_t>(rows * shape_.outputs));
    enqueue(1, rows, kind);
    stream_.copy_to_host(out.data(), y_.data(), out.size() * sizeof(float));
    stream_.wait("a product").value();
    return out;
  }

  void print(std::int64_t rows, Kind kind, const bench::Timing& time, bool equal) const {
    const double flops =
        2.0 * static_cast<double>(rows) * shape_.outputs * static_cast<double>(shape_.inputs);
    std::printf(
        "%-20s %5lld rows  %-9s %9.2f us (%.2f-%.2f)  %5.2f TB/s of weights %7.1f TFLOP/s  %s\n",
        shape_.name,
        static_cast<long long>(rows),
        name_of(kind),
        time.median_us,
        time.least_us,
        time.most_us,
        static_cast<double>(bytes_) / time.median_us * 1e-6,
        flops / time.median_us * 1e-6,
        equal ? "" : "other bits"
    );
    std::fflush(stdout);
  }

  Case shape_;
  std::int64_t bytes_;
  std::int64_t copies_;
  device::cuda::Stream stream_ = device::cuda::Stream::create({}).value();
  DenseGemm dense_ = DenseGemm::create().value();
  DeviceBuffer stored_;
  DeviceBuffer packed_;
  DeviceBuffer x_;
  DeviceBuffer y_;
  DeviceBuffer starts_;
  int plan_ = -1;
};

}  // namespace
}  // namespace pleiad::kernels::cuda

int main() {
  for (const auto& shape : pleiad::kernels::cuda::kCases) {
    pleiad::kernels::cuda::Bench bench(shape);
    for (const std::int64_t rows : {1, 8, 32, 128, 8192}) {
      bench.run(rows);
    }
  }
}
