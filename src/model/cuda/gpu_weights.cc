#include "model/cuda/gpu_weights.h"

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
  out.qkv = placer.matrix(host.qkv);
  out.qkv_bias = placer.floats(host.qkv_bias);
  out.q_norm = placer.floats(host.q_norm);
  out.k_norm = placer.floats(host.k_norm);
  out.sinks = placer.floats(host.sinks);
  out.out = placer.matrix(host.out);
  out.out_bias = placer.floats(host.out_bias);
}

// Whether the fast grouped product takes experts of these matrices.
bool can_group(const kernels::PackedMatrix& gate_up, const kernels::PackedMatrix& down) {
  const auto plain = [](const kernels::PackedMatrix& matrix) {
    return matrix.format() == kernels::WeightFormat::Plain &&
           matrix.compute() == kernels::Compute::BFloat16;
  };
  return plain(gate_up) && plain(down) && experts_fit_grouped_gemm(gate_up.inputs(), down.inputs());
}

void place(Placer& placer, const ep::MoeWeights& host, GpuMoe& out) {
  PLEIAD_CHECK(host.shards.size() == 1, "whole experts");
  const ep::ExpertShard& experts = host.shards.front();
  out.gate = placer.matrix(host.gate);
  out.logit_bias = placer.floats(host.logit_bias);
  out.choice_bias = placer.floats(host.choice_bias);
  const bool biased = !experts.gate_up_bias.empty() || !experts.down_bias.empty();
  if (!biased && can_group(experts.gate_up.front(), experts.down.front())) {
    out.grouped_gate_up = placer.grouped(experts.gate_up, GroupedLayout::Gated);
    out.grouped_down = placer.grouped(experts.down, GroupedLayout::Plain);
  } else {
    out.gate_up = placer.list(experts.gate_up);
    out.down = placer.list(experts.down);
  }
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

std::int64_t grouped_shared_experts(const ep::MoeShape& shape) {
  if (shape.intermediate == 0 || shape.shared_intermediate % shape.intermediate != 0) return 0;
  const std::int64_t shared = shape.shared_intermediate / shape.intermediate;
  return shape.gate.experts + shared <= kernels::cuda::kGroupedExpertsMax ? shared : 0;
}

bool experts_fit_grouped_gemm(std::int64_t hidden, std::int64_t intermediate) {
  const auto fits = [](std::int64_t outputs, std::int64_t inputs, GroupedOutput output) {
    return kernels::cuda::grouped_supports({
        .experts = 1,
        .outputs = static_cast<std::int32_t>(outputs),
        .inputs = static_cast<std::int32_t>(inputs),
        .rows_max = 1,
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
  Placer counter;
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
  Placer placer(out->memory.data(), &stream);
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
