#include "model/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/check.h"

namespace pleiad::model {
namespace {

bool is_float(device::DType dtype) {
  return dtype == device::DType::F32 || dtype == device::DType::BF16 || dtype == device::DType::F16;
}

float element(const device::TensorView& view, std::size_t index) {
  const std::byte* at = view.bytes.data() + index * device::size_of(view.dtype);
  if (view.dtype == device::DType::F32) {
    float value = 0.0F;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return view.dtype == device::DType::BF16 ? device::bf16_to_float(bits)
                                           : device::f16_to_float(bits);
}

Error wrong_dtype(const std::string& name, device::DType dtype) {
  return unsupported("tensor {} is {}; supported: F32, BF16, F16", name, device::to_string(dtype));
}

// Every step-th place of an extent; a count of -1 goes to the end.
struct Places {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t step = 1;
};

std::int64_t count_of(const Places& places, std::int64_t extent) {
  if (places.count >= 0) return places.count;
  return (extent - places.begin + places.step - 1) / places.step;
}

}  // namespace

Result<device::TensorView> WeightLoader::tensor_of(const MatrixPart& part) const {
  PLEIAD_CHECK(part.row_step > 0 && part.column_step > 0);
  device::Shape shape{.extents = {part.rows, part.columns}, .rank = 2};
  if (part.index >= 0) {
    std::int64_t stacked = part.stacked;
    if (stacked < 0) {
      PLEIAD_TRY(any, checkpoint_.tensor(part.name));
      stacked = std::max(any.shape[0], part.index + 1);
    }
    shape = {.extents = {stacked, part.rows, part.columns}, .rank = 3};
  }
  PLEIAD_TRY(view, checkpoint_.tensor(part.name, shape));
  if (!is_float(view.dtype)) return wrong_dtype(part.name, view.dtype);
  return view;
}

void WeightLoader::matrix(
    const std::vector<MatrixPart>& parts,
    kernels::Compute compute,
    kernels::PackedMatrix& out
) {
  Job job{.sources = {}, .compute = compute, .offset = bytes_, .bytes = 0, .out = &out};
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  for (const MatrixPart& part : parts) {
    auto view = tensor_of(part);
    if (!view.ok()) {
      errors_.push_back(std::move(view).error());
      return;
    }
    const kernels::MatrixSource source{
        .tensor = *view,
        .index = part.index,
        .row_begin = part.row_begin,
        .row_count = count_of({part.row_begin, part.row_count, part.row_step}, part.rows),
        .row_step = part.row_step,
        .column_begin = part.column_begin,
        .column_count =
            count_of({part.column_begin, part.column_count, part.column_step}, part.columns),
        .column_step = part.column_step,
        .transposed = part.transposed,
    };
    outputs += part.transposed ? source.column_count : source.row_count;
    inputs = part.transposed ? source.row_count : source.column_count;
    job.sources.push_back(source);
  }
  // Panels start on cache lines.
  job.bytes = (kernels::PackedMatrix::bytes(outputs, inputs, compute) + 63) / 64 * 64;
  bytes_ += job.bytes;
  jobs_.push_back(std::move(job));
}

void WeightLoader::vector(const std::string& name, std::int64_t size, std::vector<float>& out) {
  auto view = checkpoint_.tensor(name, {.extents = {size}, .rank = 1});
  if (!view.ok()) {
    errors_.push_back(std::move(view).error());
    return;
  }
  if (!is_float(view->dtype)) {
    errors_.push_back(wrong_dtype(name, view->dtype));
    return;
  }
  out.resize(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = element(*view, i);
  }
}

Result<void> WeightLoader::result() const {
  if (!errors_.empty()) return errors_.front();
  return {};
}

Result<device::Buffer> WeightLoader::load(
    device::ThreadPool& pool,
    std::size_t bytes_max,
    const std::function<void(std::size_t done, std::size_t total)>& progress
) {
  PLEIAD_TRY(result());
  if (bytes_ > bytes_max) {
    return exhausted(
        "the packed weights need {} MiB, {} MiB of memory may be used; use a smaller model, "
        "--dtype bfloat16, or a higher --mem-fraction-static",
        bytes_ >> 20U,
        bytes_max >> 20U
    );
  }
  PLEIAD_TRY(buffer, device::Buffer::allocate(bytes_));
  const std::span<std::byte> memory(buffer.data(), buffer.size());
  // In batches, so that progress can be told between them.
  constexpr std::size_t kBatchBytes = std::size_t{256} << 20U;
  std::size_t done_bytes = 0;
  for (std::size_t begin = 0; begin < jobs_.size();) {
    std::size_t end = begin;
    std::size_t batch_bytes = 0;
    while (end < jobs_.size() && (end == begin || batch_bytes < kBatchBytes)) {
      batch_bytes += jobs_[end++].bytes;
    }
    std::vector<std::optional<Error>> failures(end - begin);
    pool.parallel_for(end - begin, [&](std::size_t i) {
      const Job& job = jobs_[begin + i];
      auto packed = kernels::PackedMatrix::pack(
          job.sources, job.compute, memory.subspan(job.offset, job.bytes)
      );
      if (!packed.ok()) {
        failures[i] = std::move(packed).error();
        return;
      }
      *job.out = *packed;
      for (const kernels::MatrixSource& source : job.sources) {
        checkpoint_.release(source.tensor);
      }
    });
    for (auto& failure : failures) {
      if (failure) return *std::move(failure);
    }
    done_bytes += batch_bytes;
    if (progress) progress(done_bytes, bytes_);
    begin = end;
  }
  return std::move(buffer);
}

}  // namespace pleiad::model
