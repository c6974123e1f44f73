#include "kernels/cuda/dense_gemm.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include <cublasLt.h>

#include "base/check.h"
#include "device/cuda/device_buffer.h"

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
  std::vector<cublasLtMatmulAlgo_t> algorithms;  // the candidates; then the one that was chosen
};

struct Prepared {
  DenseShape shape;
  int parts = 0;
  std::vector<Plan> plans;  // [buckets]
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

// Leaves each plan its best algorithm of so many parts, when all have one.
bool keep_parts(std::vector<Plan>& plans, int parts) {
  const auto fits = [parts](const cublasLtMatmulAlgo_t& algorithm) {
    return parts_of(algorithm) == parts;
  };
  const bool all = std::ranges::all_of(plans, [&](const Plan& plan) {
    return std::ranges::any_of(plan.algorithms, fits);
  });
  if (!all) return false;
  for (Plan& plan : plans) {
    const auto best = *std::ranges::find_if(plan.algorithms, fits);
    plan.algorithms.assign(1, best);
  }
  return true;
}

}  // namespace

struct DenseGemm::State {
  Handle handle;
  device::cuda::DeviceBuffer workspace;
  std::vector<Prepared> shapes;
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
    if (prepared.parts == 0 && keep_parts(prepared.plans, parts)) prepared.parts = parts;
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
  const float one = 1.0F;
  const float zero = 0.0F;
  const cublasStatus_t status = cublasLtMatmul(
      state_->handle.get(),
      plan.operation.get(),
      &one,
      weight.codes,
      plan.weight.get(),
      x.data,
      plan.x.get(),
      &zero,
      y.data,
      plan.y.get(),
      y.data,
      plan.y.get(),
      plan.algorithms.data(),
      state_->workspace.data(),
      kWorkspaceBytes,
      stream.handle()
  );
  PLEIAD_CHECK(status == CUBLAS_STATUS_SUCCESS, cublasLtGetStatusString(status));
  stream.launched("dense_gemm", rows, prepared.shape.outputs);
}

}  // namespace pleiad::kernels::cuda
