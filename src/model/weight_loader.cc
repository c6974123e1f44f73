#include "model/weight_loader.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

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

TensorWish wish_of(const MatrixPart& part, bool codable) {
  TensorWish wish{
      .name = part.name,
      .shape = {.extents = {part.rows, part.columns}, .rank = 2},
      .codable = codable,
      .is_matrix = true,
      .inputs = part.transposed ? part.rows : part.columns};
  if (part.index >= 0) {
    wish.shape = {.extents = {part.stacked, part.rows, part.columns}, .rank = 3};
  }
  return wish;
}

}  // namespace

void WeightLoader::add(
    const std::vector<MatrixPart>& parts,
    kernels::Compute compute,
    Formats formats,
    kernels::PackedMatrix& out
) {
  if (names_only_) {
    for (const MatrixPart& part : parts) {
      wishes_.push_back(wish_of(part, formats == Formats::Any));
    }
    return;
  }
  auto job = job_of(parts, compute, formats);
  if (!job.ok()) {
    errors_.push_back(std::move(job).error());
    return;
  }
  job->offset = bytes_;
  job->out = &out;
  bytes_ += job->bytes;
  jobs_.push_back(*std::move(job));
}

Result<WeightLoader::Job> WeightLoader::job_of(
    const std::vector<MatrixPart>& parts,
    kernels::Compute compute,
    Formats formats
) const {
  Job job{.names = {}, .sources = {}, .compute = compute};
  for (const MatrixPart& part : parts) {
    PLEIAD_TRY(source, stored_matrix(checkpoint_, quantization_, part));
    const bool allowed = formats == Formats::Any || source.format == kernels::WeightFormat::Plain;
    if (!allowed) {
      return unsupported(
          "tensor {} is stored as {}; this matrix must be F32, BF16 or F16",
          part.name,
          kernels::to_string(source.format)
      );
    }
    job.names += (job.names.empty() ? "" : " + ") + part.name;
    job.sources.push_back(source);
  }
  auto bytes = kernels::PackedMatrix::bytes(job.sources, compute);
  if (!bytes.ok()) return with_context(std::move(bytes).error(), job.names);
  // Panels start on cache lines.
  job.bytes = (*bytes + 63) / 64 * 64;
  return job;
}

void WeightLoader::vector(const std::string& name, std::int64_t size, std::vector<float>& out) {
  floats(name, {.extents = {size}, .rank = 1}, out);
}

void WeightLoader::table(
    const std::string& name,
    std::int64_t rows,
    std::int64_t columns,
    std::vector<float>& out
) {
  floats(name, {.extents = {rows, columns}, .rank = 2}, out);
}

void WeightLoader::floats(
    const std::string& name,
    const device::Shape& shape,
    std::vector<float>& out
) {
  if (names_only_) return wishes_.push_back({.name = name, .shape = shape});
  auto view = checkpoint_.tensor(name, shape);
  if (!view.ok()) {
    errors_.push_back(std::move(view).error());
    return;
  }
  if (!is_float(view->dtype)) {
    errors_.push_back(wrong_dtype(name, view->dtype));
    return;
  }
  out.resize(view->bytes.size() / device::size_of(view->dtype));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = element(*view, i);
  }
}

Result<void> WeightLoader::result() const {
  if (!errors_.empty()) return errors_.front();
  return {};
}

Result<std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin>> WeightLoader::plan() {
  PLEIAD_CHECK(!names_only_, "a loader that keeps names can plan nothing");
  PLEIAD_TRY(result());
  std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin> out;
  for (Job& job : jobs_) {
    auto planned = kernels::PackedMatrix::plan(job.sources, job.compute);
    if (!planned.ok()) return with_context(std::move(planned).error(), job.names);
    *job.out = *planned;
    out.emplace(job.out, MatrixOrigin{std::move(job.names), std::move(job.sources)});
  }
  jobs_.clear();
  return out;
}

Result<device::Buffer> WeightLoader::load(
    device::ThreadPool& pool,
    std::size_t bytes_max,
    const std::function<void(std::size_t done, std::size_t total)>& progress
) {
  PLEIAD_CHECK(!names_only_, "a loader that keeps names can load nothing");
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
        failures[i] = with_context(std::move(packed).error(), job.names);
        return;
      }
      *job.out = *packed;
      for (const kernels::MatrixSource& source : job.sources) {
        checkpoint_.release(source.tensor);
        if (source.format != kernels::WeightFormat::Plain) checkpoint_.release(source.scales);
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
