#include "kernels/cuda/dense_gemm.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/cuda_error.h"
#include "device/cuda/device_buffer.h"
#include "kernels/cuda/few_rows_gemm.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;

// A tile has at least 8 rows, and for one row cuBLASLt would turn to kernels that add in another
// order.
constexpr std::array<std::int64_t, 18> kBuckets =
    {8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 6144, 8192};
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20U;
constexpr int kCandidates = 64;
// In order of preference. For few rows of 4096 inputs the kernels of two parts that are offered
// take 96 us where those of one part take 9 (H200, docs/measurements/2026-11-23-h200-models.md).
constexpr std::array kParts = {1, 2};
constexpr std::uint32_t kAnyParts =
    CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_NONE;
constexpr std::int64_t kAlignmentElements = 8;
constexpr std::uint32_t kAlignmentBytes = 16;

Result<void> checked(cublasStatus_t status, std::string_view doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return internal_error("{}: cuBLASLt says {}", doing, cublasLtGetStatusString(status));
}

// Handles that free themselves.
struct Free {
  void operator()(cublasLtHandle_t handle) const { static_cast<void>(cublasLtDestroy(handle)); }
  void operator()(cublasLtMatmulDesc_t desc) const {
    static_cast<void>(cublasLtMatmulDescDestroy(desc));
  }
  void operator()(cublasLtMatrixLayout_t layout) const {
    static_cast<void>(cublasLtMatrixLayoutDestroy(layout));
  }
  void operator()(cublasLtMatmulPreference_t preference) const {
    static_cast<void>(cublasLtMatmulPreferenceDestroy(preference));
  }
};
using Handle = std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, Free>;
using Operation = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, Free>;
using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>, Free>;
using Preference = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, Free>;

// One bucket's product: cuBLASLt counts columns where we count rows, so that y^T = W x^T.
struct Plan {
  Operation operation;
  Layout weight;
  Layout x;
  Layout y;
  std::vector<cublasLtMatmulAlgo_t> algorithms;  // the candidates; then the one that was chosen, or
                                                 // none: few_rows_gemm()
};

// A matrix [columns][rows elements], `stride` apart, `count` of them `step` apart.
struct LayoutSize {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t stride;
  std::int64_t count;
  std::int64_t step;
};

Result<Layout> make_layout(DType dtype, const LayoutSize& size) {
  cublasLtMatrixLayout_t layout = nullptr;
  PLEIAD_TRY(checked(
      cublasLtMatrixLayoutCreate(
          &layout,
          dtype == DType::F32 ? CUDA_R_32F : CUDA_R_16BF,
          static_cast<std::uint64_t>(size.rows),
          static_cast<std::uint64_t>(size.columns),
          size.stride
      ),
      "describing a matrix"
  ));
  Layout out(layout);
  const auto count = static_cast<std::int32_t>(size.count);
  PLEIAD_TRY(checked(
      cublasLtMatrixLayoutSetAttribute(
          layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)
      ),
      "describing a batch"
  ));
  PLEIAD_TRY(checked(
      cublasLtMatrixLayoutSetAttribute(
          layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &size.step, sizeof(size.step)
      ),
      "describing a batch"
  ));
  return out;
}

// An algorithm's number of parts; none when they would be added in whatever order they come.
std::optional<int> parts_of(const cublasLtMatmulAlgo_t& algorithm) {
  std::int32_t parts = 0;
  std::uint32_t scheme = 0;
  std::size_t written = 0;
  const bool known =
      cublasLtMatmulAlgoConfigGetAttribute(
          &algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof(parts), &written
      ) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulAlgoConfigGetAttribute(
          &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof(scheme), &written
      ) == CUBLAS_STATUS_SUCCESS;
  if (!known || parts < 0) return std::nullopt;
  parts = std::max(parts, 1);
  if (parts > 1 && scheme != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) return std::nullopt;
  return parts;
}

// Adds the kernels that cuBLASLt thinks best, of those that add their parts in one of `schemes`.
Result<void> add_candidates(cublasLtHandle_t handle, std::uint32_t schemes, Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  PLEIAD_TRY(checked(cublasLtMatmulPreferenceCreate(&preference), "choosing a product's kernel"));
  const Preference owned(preference);
  PLEIAD_TRY(checked(
      cublasLtMatmulPreferenceSetAttribute(
          preference,
          CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
          &kWorkspaceBytes,
          sizeof(kWorkspaceBytes)
      ),
      "choosing a product's kernel"
  ));
  for (const auto operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    PLEIAD_TRY(checked(
        cublasLtMatmulPreferenceSetAttribute(
            preference, operand, &kAlignmentBytes, sizeof(kAlignmentBytes)
        ),
        "choosing a product's kernel"
    ));
  }
  PLEIAD_TRY(checked(
      cublasLtMatmulPreferenceSetAttribute(
          preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes)
      ),
      "choosing a product's kernel"
  ));
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle,
      plan.operation.get(),
      plan.weight.get(),
      plan.x.get(),
      plan.y.get(),
      plan.y.get(),
      preference,
      kCandidates,
      found.data(),
      &count
  );
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  PLEIAD_TRY(checked(status, "choosing a product's kernel"));
  for (const auto& candidate : std::span(found).first(static_cast<std::size_t>(count))) {
    if (candidate.state == CUBLAS_STATUS_SUCCESS) plan.algorithms.push_back(candidate.algo);
  }
  return {};
}

Result<Plan> make_plan(cublasLtHandle_t handle, const DenseShape& shape, std::int64_t rows) {
  Plan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  PLEIAD_TRY(checked(
      cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product"
  ));
  plan.operation.reset(operation);
  const cublasOperation_t turned = CUBLAS_OP_T;
  PLEIAD_TRY(checked(
      cublasLtMatmulDescSetAttribute(
          operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof(turned)
      ),
      "describing a product"
  ));
  PLEIAD_TRY(
      weight,
      make_layout(
          DType::BF16, {shape.inputs, shape.outputs, shape.inputs, shape.count, shape.weight_step}
      )
  );
  PLEIAD_TRY(
      x, make_layout(DType::BF16, {shape.inputs, rows, shape.x_stride, shape.count, shape.x_step})
  );
  PLEIAD_TRY(
      y,
      make_layout(shape.y_dtype, {shape.outputs, rows, shape.y_stride, shape.count, shape.y_step})
  );
  plan.weight = std::move(weight);
  plan.x = std::move(x);
  plan.y = std::move(y);

  PLEIAD_TRY(add_candidates(handle, kAnyParts, plan));
  // Without asking for them alone, kernels of one part may not be among the best.
  PLEIAD_TRY(add_candidates(handle, CUBLASLT_REDUCTION_SCHEME_NONE, plan));
  return plan;
}

// A kernel that may be chosen: cuBLASLt's, or few_rows_gemm().
struct Candidate {
  std::optional<cublasLtMatmulAlgo_t> algorithm;
};

// A plan's algorithms of so many parts.
std::vector<Candidate> of_parts(const Plan& plan, int parts) {
  std::vector<Candidate> out;
  for (const cublasLtMatmulAlgo_t& algorithm : plan.algorithms) {
    if (parts_of(algorithm) == parts) out.push_back({algorithm});
  }
  return out;
}

// Operands of a product.
struct Operands {
  const void* weight = nullptr;
  const void* x = nullptr;
  void* y = nullptr;
};

FewRowsTask few_rows_task(const DenseShape& shape, std::int64_t rows, const Operands& operands) {
  return {
      .x = {.data = const_cast<void*>(operands.x), .stride = shape.x_stride, .dtype = DType::BF16},
      .rows = rows,
      .weight =
          {.codes = static_cast<const std::byte*>(operands.weight),
           .outputs = shape.outputs,
           .inputs = shape.inputs,
           .row_bytes = shape.inputs * 2,
           .compute = Compute::BFloat16},
      .y = {.data = operands.y, .stride = shape.y_stride, .dtype = shape.y_dtype},
      .count = shape.count,
      .weight_step = shape.weight_step,
      .x_step = shape.x_step,
      .y_step = shape.y_step,
  };
}

}  // namespace

struct DenseGemm::Prepared {
  DenseShape shape;
  int parts = 0;
  std::vector<Plan> plans;  // [buckets]
};

struct DenseGemm::State {
  Handle handle;
  device::cuda::DeviceBuffer workspace;
  std::vector<Prepared> shapes;

  // Enqueues cuBLASLt's `algorithm`.
  cublasStatus_t multiply(
      const Plan& plan,
      const cublasLtMatmulAlgo_t& algorithm,
      const Operands& operands,
      cudaStream_t stream
  ) const {
    const float one = 1.0F;
    const float zero = 0.0F;
    return cublasLtMatmul(
        handle.get(),
        plan.operation.get(),
        &one,
        operands.weight,
        plan.weight.get(),
        operands.x,
        plan.x.get(),
        &zero,
        operands.y,
        plan.y.get(),
        operands.y,
        plan.y.get(),
        &algorithm,
        workspace.data(),
        kWorkspaceBytes,
        stream
    );
  }
};

// Runs a shape's kernels on noise: those that differ in bits from the first are none for it, and of
// the others few rows take the fastest. Each run reads another copy of the matrix, as many as the
// GPU's cache does not hold.
class DenseGemm::Trial {
 public:
  static Result<Trial> create(const DenseShape& shape, std::int64_t rows) {
    int gpu = 0;
    PLEIAD_TRY(device::cuda::checked(cudaGetDevice(&gpu), "trying kernels"));
    PLEIAD_TRY(stream, device::cuda::Stream::create({.gpu = gpu}));
    Trial trial(shape, std::move(stream));
    const std::int64_t height =
        shape.weight_step * (shape.count - 1) / shape.inputs + shape.outputs;
    trial.copy_bytes_ = height * shape.inputs * 2;
    trial.copies_ = std::clamp<std::int64_t>(kCopiesBytes / trial.copy_bytes_, 1, kRuns);
    PLEIAD_TRY(weight, noise(trial.stream_, height * trial.copies_, shape.inputs));
    PLEIAD_TRY(x, noise(trial.stream_, rows, shape.x_stride));
    const auto y_bytes =
        static_cast<std::size_t>(rows * shape.y_stride) * device::size_of(shape.y_dtype);
    PLEIAD_TRY(y, device::cuda::DeviceBuffer::allocate(y_bytes, "trying kernels"));
    trial.weight_ = std::move(weight);
    trial.x_ = std::move(x);
    trial.y_ = std::move(y);
    const std::int64_t width = shape.y_step * (shape.count - 1) + shape.outputs;
    trial.row_.resize(static_cast<std::size_t>(width) * device::size_of(shape.y_dtype));
    return trial;
  }

  // The candidate to keep; none when none fits.
  Result<std::optional<Candidate>>
  choose(State& state, const Plan& plan, std::span<const Candidate> candidates, std::int64_t rows) {
    std::optional<Candidate> best;
    double best_ms = 0.0;
    for (const Candidate& candidate : candidates) {
      PLEIAD_TRY(fits, same_bits(state, plan, candidate, rows));
      if (!fits) continue;
      if (rows > kTimedRowsMax) return std::optional(candidate);
      PLEIAD_TRY(measured, time(state, plan, candidate, rows));
      const double ms = candidate.algorithm ? measured : measured * kOwnShare;
      if (!best || ms < best_ms) {
        best = candidate;
        best_ms = ms;
      }
    }
    return best;
  }

  // What choose() is given: so many of cuBLASLt's, and this program's kernel for few rows.
  [[nodiscard]] std::vector<Candidate> candidates(const Plan& plan, int parts, std::int64_t rows)
      const {
    std::vector<Candidate> out = of_parts(plan, parts);
    out.resize(std::min(out.size(), kTriedMax));
    const bool fits = few_rows_supports(few_rows_task(shape_, rows, {}));
    if (parts == 1 && fits) out.emplace_back();
    return out;
  }

 private:
  static constexpr std::size_t kTriedMax = 12;
  static constexpr std::int64_t kTimedRowsMax = 256;
  static constexpr int kRuns = 16;
  // In a step, few_rows_gemm() reads the matrix while the kernel in front of it still runs, which a
  // trial of one shape does not show.
  static constexpr double kOwnShare = 0.75;
  static constexpr std::int64_t kCopiesBytes = std::int64_t{256} << 20U;

  Trial(const DenseShape& shape, device::cuda::Stream stream)
      : shape_(shape), stream_(std::move(stream)) {}

  static Result<device::cuda::DeviceBuffer>
  noise(device::cuda::Stream& stream, std::int64_t rows, std::int64_t width) {
    const auto bytes = static_cast<std::size_t>(rows * width) * sizeof(device::BF16);
    PLEIAD_TRY(memory, device::cuda::DeviceBuffer::allocate(bytes, "trying kernels"));
    const DeviceMatrix matrix{
        .codes = memory.data(),
        .outputs = rows,
        .inputs = width,
        .row_bytes = width * 2,
        .compute = Compute::BFloat16,
    };
    fill_random(stream, matrix, 1.0F, 1);
    return memory;
  }

  bool run(
      State& state,
      const Plan& plan,
      const Candidate& candidate,
      std::int64_t rows,
      std::int64_t copy
  ) {
    const Operands operands{
        .weight = weight_.data() + copy * copy_bytes_, .x = x_.data(), .y = y_.data()};
    if (!candidate.algorithm) {
      few_rows_gemm(stream_, few_rows_task(shape_, rows, operands));
      return true;
    }
    return state.multiply(plan, *candidate.algorithm, operands, stream_.handle()) ==
           CUBLAS_STATUS_SUCCESS;
  }

  Result<bool>
  same_bits(State& state, const Plan& plan, const Candidate& candidate, std::int64_t rows) {
    stream_.fill(y_.data(), 0, y_.size());
    if (!run(state, plan, candidate, rows, 0)) return false;
    stream_.copy_to_host(row_.data(), y_.data(), row_.size());
    PLEIAD_TRY(stream_.wait("trying kernels"));
    if (expected_.empty()) expected_ = row_;
    return row_ == expected_;
  }

  Result<double>
  time(State& state, const Plan& plan, const Candidate& candidate, std::int64_t rows) {
    PLEIAD_TRY(begin, device::cuda::Event::create());
    PLEIAD_TRY(end, device::cuda::Event::create());
    PLEIAD_TRY(begin.record(stream_));
    for (int i = 0; i < kRuns; ++i) {
      static_cast<void>(run(state, plan, candidate, rows, i % copies_));
    }
    PLEIAD_TRY(end.record(stream_));
    return end.milliseconds_since(begin);
  }

  DenseShape shape_;
  device::cuda::Stream stream_;
  std::int64_t copy_bytes_ = 0;
  std::int64_t copies_ = 1;
  device::cuda::DeviceBuffer weight_;
  device::cuda::DeviceBuffer x_;
  device::cuda::DeviceBuffer y_;
  std::vector<std::byte> row_;       // of the kernel under trial
  std::vector<std::byte> expected_;  // of the first one
};

bool dense_gemm_supports(const DenseShape& shape) {
  const auto even = [](std::int64_t value) { return value % kAlignmentElements == 0; };
  return shape.outputs > 0 && shape.inputs > 0 && even(shape.outputs) && even(shape.inputs) &&
         even(shape.x_stride) && even(shape.y_stride) && even(shape.weight_step) &&
         even(shape.x_step) && even(shape.y_step);
}

std::span<const std::int64_t> dense_row_buckets() {
  return kBuckets;
}

std::int64_t dense_row_bucket(std::int64_t rows) {
  const auto found = std::ranges::lower_bound(kBuckets, rows);
  PLEIAD_CHECK(found != kBuckets.end(), "more rows than the largest bucket");
  return *found;
}

DenseGemm::DenseGemm(std::unique_ptr<State> state) : state_(std::move(state)) {}
DenseGemm::DenseGemm(DenseGemm&&) noexcept = default;
DenseGemm& DenseGemm::operator=(DenseGemm&&) noexcept = default;
DenseGemm::~DenseGemm() = default;

Result<DenseGemm> DenseGemm::create() {
  auto state = std::make_unique<State>();
  cublasLtHandle_t handle = nullptr;
  PLEIAD_TRY(checked(cublasLtCreate(&handle), "starting cuBLASLt"));
  state->handle.reset(handle);
  PLEIAD_TRY(
      workspace, device::cuda::DeviceBuffer::allocate(kWorkspaceBytes, "cuBLASLt's work space")
  );
  state->workspace = std::move(workspace);
  return DenseGemm(std::move(state));
}

// From the most rows down: their kernels are the ordinary ones, whose bits the others must have.
Result<bool> DenseGemm::choose_algorithms(Prepared& prepared, int parts) {
  const auto rows_most = kBuckets.at(prepared.plans.size() - 1);
  PLEIAD_TRY(trial, Trial::create(prepared.shape, rows_most));
  std::vector<Candidate> chosen(prepared.plans.size());
  for (std::size_t i = prepared.plans.size(); i-- > 0;) {
    const Plan& plan = prepared.plans[i];
    const std::int64_t rows = kBuckets.at(i);
    PLEIAD_TRY(best, trial.choose(*state_, plan, trial.candidates(plan, parts, rows), rows));
    if (!best) return false;
    chosen[i] = *best;
  }
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    prepared.plans[i].algorithms.clear();
    if (chosen[i].algorithm) prepared.plans[i].algorithms.push_back(*chosen[i].algorithm);
  }
  return true;
}

Result<int> DenseGemm::prepare(const DenseShape& shape, std::int64_t rows_max) {
  PLEIAD_CHECK(dense_gemm_supports(shape));
  const auto known = std::ranges::find(state_->shapes, shape, &Prepared::shape);
  if (known != state_->shapes.end()) return static_cast<int>(known - state_->shapes.begin());
  Prepared prepared{.shape = shape};
  for (const std::int64_t rows : kBuckets) {
    PLEIAD_TRY(plan, make_plan(state_->handle.get(), shape, rows));
    prepared.plans.push_back(std::move(plan));
    if (rows >= rows_max) break;
  }
  for (const int parts : kParts) {
    if (prepared.parts > 0) break;
    PLEIAD_TRY(chosen, choose_algorithms(prepared, parts));
    if (chosen) prepared.parts = parts;
  }
  if (prepared.parts == 0) {
    return unsupported(
        "cuBLASLt has no kernels that treat all row counts of a product [{}, {}] alike",
        shape.outputs,
        shape.inputs
    );
  }
  state_->shapes.push_back(std::move(prepared));
  return static_cast<int>(state_->shapes.size()) - 1;
}

int DenseGemm::parts(int shape) const {
  return state_->shapes[static_cast<std::size_t>(shape)].parts;
}

void DenseGemm::run(
    device::cuda::Stream& stream,
    int shape,
    std::int64_t rows,
    const DeviceMatrix& weight,
    const DeviceRows& x,
    const DeviceRows& y
) {
  if (rows == 0) return;
  const Prepared& prepared = state_->shapes[static_cast<std::size_t>(shape)];
  const auto bucket = std::ranges::lower_bound(kBuckets, rows) - kBuckets.begin();
  PLEIAD_CHECK(static_cast<std::size_t>(bucket) < prepared.plans.size());
  PLEIAD_CHECK(x.stride == prepared.shape.x_stride && y.stride == prepared.shape.y_stride);
  const Plan& plan = prepared.plans[static_cast<std::size_t>(bucket)];
  const Operands operands{.weight = weight.codes, .x = x.data, .y = y.data};
  if (plan.algorithms.empty()) {
    few_rows_gemm(stream, few_rows_task(prepared.shape, rows, operands));
    return;
  }
  const cublasStatus_t status =
      state_->multiply(plan, plan.algorithms.front(), operands, stream.handle());
  PLEIAD_CHECK(status == CUBLAS_STATUS_SUCCESS, cublasLtGetStatusString(status));
  stream.launched("dense_gemm", rows, prepared.shape.outputs);
}

}  // namespace pleiad::kernels::cuda
