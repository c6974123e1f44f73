#include "model/cuda/gpu_weights.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "kernels/cuda/grouped_gemm_plan.h"
#include "model/cuda/weight_placer.h"

namespace pleiad::model::cuda {
namespace {

using device::cuda::DeviceBuffer;
using Placer = WeightPlacer;

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
  out.qkv = host.qkv_bias.empty() ? placer.matrix(host.qkv) : placer.rows(host.qkv);
  out.qkv_bias = placer.floats(host.qkv_bias);
  out.q_norm = placer.floats(host.q_norm);
  out.k_norm = placer.floats(host.k_norm);
  out.sinks = placer.floats(host.sinks);
  out.out = host.out_bias.empty() ? placer.matrix(host.out) : placer.rows(host.out);
  out.out_bias = placer.floats(host.out_bias);
}

// Whether the fast grouped product takes these experts.
bool can_group(const Placer& placer, const ep::ExpertShard& experts) {
  if (!experts.gate_up_bias.empty() || !experts.down_bias.empty()) return false;
  const auto plain = [](const kernels::PackedMatrix& matrix) {
    return matrix.format() == kernels::WeightFormat::Plain &&
           matrix.compute() == kernels::Compute::BFloat16;
  };
  const auto coded = [&](const kernels::PackedMatrix& matrix) { return placer.takes_fp8(matrix); };
  const std::int64_t hidden = experts.gate_up.front().inputs();
  const std::int64_t intermediate = experts.down.front().inputs();
  const auto all = [&](const auto& is) {
    return std::ranges::all_of(experts.gate_up, is) && std::ranges::all_of(experts.down, is);
  };
  if (all(plain)) {
    return experts_fit_grouped_gemm(hidden, intermediate, GroupedFormat::BFloat16);
  }
  return all(coded) && experts_fit_grouped_gemm(hidden, intermediate, GroupedFormat::Fp8Blocks);
}

// How many experts the shared MLP becomes beside those of the grouped product; 0: it stays alone.
std::int64_t shared_experts(const Placer& placer, const ep::MoeWeights& host) {
  const ep::ExpertShard& experts = host.shards.front();
  const kernels::PackedMatrix& like = experts.down.front();
  const kernels::PackedMatrix& down = host.shared_down;
  const auto alike = [](const kernels::PackedMatrix& a, const kernels::PackedMatrix& b) {
    return a.format() == b.format() && a.compute() == b.compute();
  };
  if (down.outputs() == 0 || down.inputs() % like.inputs() != 0) return 0;
  if (!alike(down, like) || !alike(host.shared_gate_up, experts.gate_up.front())) return 0;
  const std::int64_t shared = down.inputs() / like.inputs();
  const auto routed = static_cast<std::int64_t>(experts.down.size());
  if (routed + shared > kernels::cuda::kGroupedExpertsMax) return 0;
  if (down.format() == kernels::WeightFormat::Plain) return shared;
  // Scales of a piece would have to be picked out of their rows.
  const bool fits = placer.takes_fp8(down) && placer.takes_fp8(host.shared_gate_up);
  return fits && shared == 1 ? 1 : 0;
}

void place(Placer& placer, const ep::MoeWeights& host, GpuMoe& out) {
  PLEIAD_CHECK(host.shards.size() == 1, "whole experts");
  const ep::ExpertShard& experts = host.shards.front();
  out.gate = placer.gate(host.gate, experts.down.front().compute());
  out.logit_bias = placer.floats(host.logit_bias);
  out.choice_bias = placer.floats(host.choice_bias);
  if (can_group(placer, experts)) {
    const std::int64_t shared = shared_experts(placer, host);
    out.shared_experts = shared;
    out.grouped_gate_up =
        placer.grouped({experts.gate_up, host.shared_gate_up, shared}, GroupedLayout::Gated);
    out.grouped_down =
        placer.grouped({experts.down, host.shared_down, shared}, GroupedLayout::Plain);
  } else {
    out.gate_up = placer.list(experts.gate_up);
    out.down = placer.list(experts.down);
  }
  out.gate_up_bias = placer.floats(experts.gate_up_bias);
  out.down_bias = placer.floats(experts.down_bias);
  if (out.shared_experts == 0) {
    out.shared.gate_up = placer.matrix(host.shared_gate_up);
    out.shared.down = placer.matrix(host.shared_down);
  }
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

std::int64_t grouped_shared_experts(const ep::MoeShape& shape) {
  if (shape.intermediate == 0 || shape.shared_intermediate % shape.intermediate != 0) return 0;
  const std::int64_t shared = shape.shared_intermediate / shape.intermediate;
  return shape.gate.experts + shared <= kernels::cuda::kGroupedExpertsMax ? shared : 0;
}

bool experts_fit_grouped_gemm(
    std::int64_t hidden,
    std::int64_t intermediate,
    GroupedFormat format
) {
  const auto fits = [&](std::int64_t outputs, std::int64_t inputs, GroupedOutput output) {
    return kernels::cuda::grouped_supports({
        .experts = 1,
        .outputs = static_cast<std::int32_t>(outputs),
        .inputs = static_cast<std::int32_t>(inputs),
        .rows_max = 1,
        .format = format,
        .output = output,
    });
  };
  return fits(2 * intermediate, hidden, GroupedOutput::SwiGlu).ok() &&
         fits(hidden, intermediate, GroupedOutput::BFloat16).ok();
}

Result<std::unique_ptr<GpuWeights>> upload_weights(
    const PlannedWeights& planned,
    const weights::Checkpoint& checkpoint,
    device::cuda::Stream& stream,
    const UploadSettings& settings
) {
  GpuWeights counted;
  Placer counter(planned.origins);
  place(counter, planned.weights, counted);
  constexpr std::string_view kRemedy =
      "use a smaller model, one stored in fewer bits, or a higher --mem-fraction-static";
  if (counter.bytes() > settings.weight_bytes_max) {
    return exhausted(
        "the weights need {:.1f} GiB of GPU memory, {:.1f} GiB may be used; {}",
        device::cuda::gib(counter.bytes()),
        device::cuda::gib(settings.weight_bytes_max),
        kRemedy
    );
  }
  auto out = std::make_unique<GpuWeights>();
  PLEIAD_TRY(memory, DeviceBuffer::allocate(counter.bytes(), "the weights", kRemedy));
  out->memory = std::move(memory);
  Placer placer(planned.origins, out->memory.data(), &stream);
  place(placer, planned.weights, *out);
  PLEIAD_TRY(
      phases,
      upload(
          placer.uploads(),
          planned.origins,
          checkpoint,
          {.gpu = stream.gpu(), .readers = settings.readers, .progress = settings.progress}
      )
  );
  out->phases = phases;
  PLEIAD_TRY(stream.wait("copying weights to the GPU"));
  return out;
}

}  // namespace pleiad::model::cuda
