#include "model/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <optional>

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

}  // namespace

void WeightLoader::matrix(
    const std::vector<MatrixPart>& parts,
    kernels::Compute compute,
    kernels::PackedMatrix& out
) {
  Job job{.sources = {}, .compute = compute, .offset = bytes_, .bytes = 0, .out = &out};
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  for (const MatrixPart& part : parts) {
    const device::Shape shape{.extents = {part.rows, part.columns}, .rank = 2};
    auto view = checkpoint_.tensor(part.name, shape);
    if (!view.ok()) {
      errors_.push_back(std::move(view).error());
      return;
    }
    if (!is_float(view->dtype)) {
      errors_.push_back(wrong_dtype(part.name, view->dtype));
      return;
    }
    const std::int64_t rows = part.row_count < 0 ? part.rows - part.row_begin : part.row_count;
    const std::int64_t columns =
        part.column_count < 0 ? part.columns - part.column_begin : part.column_count;
    outputs += part.transposed ? columns : rows;
    inputs = part.transposed ? rows : columns;
    job.sources.push_back(
        {.tensor = *view,
         .row_begin = part.row_begin,
         .row_count = rows,
         .column_begin = part.column_begin,
         .column_count = columns,
         .transposed = part.transposed}
    );
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
