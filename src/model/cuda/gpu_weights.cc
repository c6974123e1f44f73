#include "model/cuda/gpu_weights.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace pleiad::model::cuda {
namespace {

using device::cuda::DeviceBuffer;
using device::cuda::PinnedBuffer;
using device::cuda::Stream;
using kernels::PackedMatrix;

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kStagingBytes = std::size_t{64} << 20U;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Gives everything its place, first to count (memory null), then to copy. Both passes call in the
// same order.
class Placer {
 public:
  explicit Placer(std::byte* memory = nullptr, Stream* stream = nullptr)
      : memory_(memory), stream_(stream) {}

  [[nodiscard]] std::size_t bytes() const { return offset_; }
  Result<void> result() { return stream_ == nullptr ? Result<void>{} : std::move(failure_); }

  // Bytes as they are. The source must stay until the stream was waited for.
  const std::byte* raw(std::span<const std::byte> source) {
    std::byte* at = take(source.size());
    if (stream_ != nullptr) stream_->copy_to_device(at, source.data(), source.size());
    return at;
  }

  const float* floats(const std::vector<float>& values) {
    if (values.empty()) return nullptr;
    return reinterpret_cast<const float*>(raw(std::as_bytes(std::span(values))));
  }

  // Vectors of one length, one after the other.
  const float* floats(const std::vector<std::vector<float>>& values) {
    if (values.empty()) return nullptr;
    std::byte* begin = take(values.size() * values.front().size() * sizeof(float));
    std::byte* at = begin;
    for (const std::vector<float>& line : values) {
      const std::size_t bytes = line.size() * sizeof(float);
      if (stream_ != nullptr) stream_->copy_to_device(at, line.data(), bytes);
      at += bytes;
    }
    return reinterpret_cast<const float*>(begin);
  }

  DeviceMatrix matrix(const PackedMatrix& source) {
    if (source.outputs() == 0) return {};
    const DeviceMatrix size = kernels::cuda::plan_device_matrix(source.outputs(), source.layout());
    std::byte* at = take(kernels::cuda::device_matrix_bytes(size));
    const DeviceMatrix placed =
        kernels::cuda::plan_device_matrix(source.outputs(), source.layout(), at);
    if (stream_ != nullptr) copy(source, placed);
    return placed;
  }

  MatrixList list(const std::vector<PackedMatrix>& sources) {
    MatrixList out;
    for (const PackedMatrix& source : sources) {
      out.matrices.push_back(matrix(source));
    }
    return out;
  }

  // The list's table, once its vector stays where it is.
  void table(MatrixList& list) {
    const auto bytes = raw(std::as_bytes(std::span(list.matrices)));
    list.table = reinterpret_cast<const DeviceMatrix*>(bytes);
  }

 private:
  std::byte* take(std::size_t bytes) {
    std::byte* at = memory_ == nullptr ? nullptr : memory_ + offset_;
    offset_ += aligned(bytes);
    return at;
  }

  // In portions that fit the staging memory, panel by panel.
  void copy(const PackedMatrix& source, const DeviceMatrix& placed) {
    if (!failure_.ok()) return;
    if (staging_.size() == 0) {
      failure_ = allocate_staging(std::max(kStagingBytes, source.panel_bytes()));
      if (!failure_.ok()) return;
    }
    PLEIAD_CHECK(source.panel_bytes() <= staging_.size(), "a panel larger than the staging memory");
    const auto portion = static_cast<std::int64_t>(staging_.size() / source.panel_bytes());
    for (std::int64_t first = 0; first < source.panels(); first += portion) {
      const std::int64_t count = std::min(portion, source.panels() - first);
      const auto bytes = static_cast<std::size_t>(count) * source.panel_bytes();
      stream_->copy_to_device(staging_.data(), source.panel(first), bytes);
      kernels::cuda::place_panels(
          *stream_,
          {.panels = staging_.data(),
           .layout = source.layout(),
           .first_panel = first,
           .panel_count = count,
           .matrix = placed}
      );
    }
  }

  Result<void> allocate_staging(std::size_t bytes) {
    PLEIAD_TRY(staging, DeviceBuffer::allocate(bytes, "staging memory for loading"));
    staging_ = std::move(staging);
    return {};
  }

  std::byte* memory_;
  Stream* stream_;
  std::size_t offset_ = 0;
  DeviceBuffer staging_;
  Result<void> failure_;
};

void place(Placer& placer, const MlaWeights& host, GpuMla& out) {
  out.down = placer.matrix(host.down);
  out.q_norm = placer.floats(host.q_norm);
  out.q_up = placer.matrix(host.q_up);
  out.kv_norm = placer.floats(host.kv_norm);
  out.key_up = placer.list(host.key_up);
  out.value_up = placer.list(host.value_up);
  out.out = placer.matrix(host.out);
  placer.table(out.key_up);
  placer.table(out.value_up);
}

void place(Placer& placer, const GqaWeights& host, GpuGqa& out) {
  out.qkv = placer.matrix(host.qkv);
  out.qkv_bias = placer.floats(host.qkv_bias);
  out.q_norm = placer.floats(host.q_norm);
  out.k_norm = placer.floats(host.k_norm);
  out.sinks = placer.floats(host.sinks);
  out.out = placer.matrix(host.out);
  out.out_bias = placer.floats(host.out_bias);
}

void place(Placer& placer, const ep::MoeWeights& host, GpuMoe& out) {
  PLEIAD_CHECK(host.shards.size() == 1, "whole experts");
  const ep::ExpertShard& experts = host.shards.front();
  out.gate = placer.matrix(host.gate);
  out.logit_bias = placer.floats(host.logit_bias);
  out.choice_bias = placer.floats(host.choice_bias);
  out.gate_up = placer.list(experts.gate_up);
  out.down = placer.list(experts.down);
  out.gate_up_bias = placer.floats(experts.gate_up_bias);
  out.down_bias = placer.floats(experts.down_bias);
  out.shared.gate_up = placer.matrix(host.shared_gate_up);
  out.shared.down = placer.matrix(host.shared_down);
  placer.table(out.gate_up);
  placer.table(out.down);
}

void place(Placer& placer, const DecoderWeights::Layer& host, GpuWeights::Layer& out) {
  out.input_norm = placer.floats(host.input_norm);
  out.post_attention_norm = placer.floats(host.post_attention_norm);
  PLEIAD_CHECK(host.parts.size() == 1, "whole layers");
  const DecoderWeights::LayerPart& part = host.parts.front();
  if (const auto* latent = std::get_if<MlaWeights>(&part.attention)) {
    place(placer, *latent, out.attention.emplace<GpuMla>());
  } else {
    place(placer, std::get<GqaWeights>(part.attention), out.attention.emplace<GpuGqa>());
  }
  if (part.dense) {
    out.dense = GpuMlp{
        .gate_up = placer.matrix(part.dense->gate_up), .down = placer.matrix(part.dense->down)};
  }
  if (host.moe) place(placer, *host.moe, out.moe.emplace());
}

void place(Placer& placer, const DecoderWeights& host, GpuWeights& out) {
  PLEIAD_CHECK(host.heads.size() == 1, "a whole head");
  out.head = placer.matrix(host.heads.front());
  out.embedding = placer.raw(host.embedding.bytes);
  out.embedding_dtype = host.embedding.dtype;
  out.final_norm = placer.floats(host.final_norm);
  out.layers.resize(host.layers.size());
  for (std::size_t i = 0; i < host.layers.size(); ++i) {
    place(placer, host.layers[i], out.layers[i]);
  }
}

}  // namespace

Result<std::unique_ptr<GpuWeights>>
upload_weights(const DecoderWeights& host, device::cuda::Stream& stream) {
  GpuWeights counted;
  Placer counter;
  place(counter, host, counted);
  auto out = std::make_unique<GpuWeights>();
  PLEIAD_TRY(
      memory,
      DeviceBuffer::allocate(
          counter.bytes(), "the weights", "use a smaller model, or one stored in fewer bits"
      )
  );
  out->memory = std::move(memory);
  Placer placer(out->memory.data(), &stream);
  place(placer, host, *out);
  PLEIAD_TRY(stream.wait("copying weights to the GPU"));
  PLEIAD_TRY(placer.result());
  return out;
}

}  // namespace pleiad::model::cuda
