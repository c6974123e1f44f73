#include "model/cuda/dummy_weights.h"

#include "model/cuda/weight_placer.h"

namespace pleiad::model::cuda {
namespace {

using Noise = WeightPlacer::Noise;
using kernels::Compute;

// Places the parts of one layer, and of the whole.
class Dummy {
 public:
  Dummy(const DecoderConfig& config, Compute compute, WeightPlacer& placer)
      : config_(config), compute_(compute), placer_(placer) {}

  void place(GpuWeights& out) {
    out.head = matrix(config_.vocabulary, config_.hidden);
    out.embedding = placer_.rows(noise(config_.vocabulary, config_.hidden));
    out.embedding_dtype = compute_ == Compute::Float32 ? device::DType::F32 : device::DType::BF16;
    out.final_norm = placer_.repeated(config_.hidden, 1.0F);
    out.layers.resize(config_.layers.size());
    for (std::size_t i = 0; i < config_.layers.size(); ++i) {
      place_layer(config_.layers[i], out.layers[i]);
    }
  }

 private:
  [[nodiscard]] Noise noise(std::int64_t outputs, std::int64_t inputs) const {
    return {.outputs = outputs, .inputs = inputs, .compute = compute_};
  }
  DeviceMatrix matrix(std::int64_t outputs, std::int64_t inputs) {
    return placer_.matrix(noise(outputs, inputs));
  }
  // A vector of zeros, where there is one.
  const float* zeros(bool there, std::int64_t count) {
    return there ? placer_.repeated(count, 0.0F) : nullptr;
  }

  void place_layer(const DecoderLayer& layer, GpuWeights::Layer& out) {
    out.input_norm = placer_.repeated(config_.hidden, 1.0F);
    out.post_attention_norm = placer_.repeated(config_.hidden, 1.0F);
    if (const auto* latent = std::get_if<MlaShape>(&config_.attention)) {
      place_mla(*latent, out.attention.emplace<GpuMla>());
    } else {
      place_gqa(std::get<GqaShape>(config_.attention), out.attention.emplace<GpuGqa>());
    }
    if (layer.moe) {
      place_moe(out.moe.emplace());
    } else {
      out.dense = mlp(config_.intermediate);
    }
  }

  GpuMlp mlp(std::int64_t intermediate) {
    if (intermediate == 0) return {};
    return {
        .gate_up = matrix(2 * intermediate, config_.hidden),
        .down = matrix(config_.hidden, intermediate)};
  }

  void place_mla(const MlaShape& shape, GpuMla& out) {
    out.down = matrix(shape.down(), shape.hidden);
    if (shape.q_lora > 0) {
      out.q_norm = placer_.repeated(shape.q_lora, 1.0F);
      out.q_up = matrix(shape.query(), shape.q_lora);
    }
    out.kv_norm = placer_.repeated(shape.kv_lora, 1.0F);
    out.key_up = placer_.list(shape.heads, noise(shape.kv_lora, shape.nope));
    out.value_up = placer_.list(shape.heads, noise(shape.value, shape.kv_lora));
    out.out = matrix(shape.hidden, shape.heads * shape.value);
    placer_.table(out.key_up);
    placer_.table(out.value_up);
  }

  void place_gqa(const GqaShape& shape, GpuGqa& out) {
    out.qkv = matrix(shape.qkv(), shape.hidden);
    out.qkv_bias = zeros(shape.qkv_bias, shape.qkv());
    if (shape.qk_norm) {
      out.q_norm = placer_.repeated(shape.head, 1.0F);
      out.k_norm = placer_.repeated(shape.head, 1.0F);
    }
    out.sinks = zeros(shape.sinks, shape.heads);
    out.out = matrix(shape.hidden, shape.query());
    out.out_bias = zeros(shape.out_bias, shape.hidden);
  }

  void place_moe(GpuMoe& out) {
    const ep::MoeShape& shape = config_.moe;
    const std::int64_t experts = shape.gate.experts;
    out.gate =
        placer_.matrix({.outputs = experts, .inputs = shape.hidden, .compute = Compute::Float32});
    const Noise gate_up = noise(2 * shape.intermediate, shape.hidden);
    const Noise down = noise(shape.hidden, shape.intermediate);
    const bool grouped = compute_ == Compute::BFloat16 && shape.activation_limit == 0.0F &&
                         experts_fit_grouped_gemm(shape.hidden, shape.intermediate);
    if (grouped) {
      out.grouped_gate_up = placer_.grouped(experts, gate_up, GroupedLayout::Gated);
      out.grouped_down = placer_.grouped(experts, down, GroupedLayout::Plain);
    } else {
      out.gate_up = placer_.list(experts, gate_up);
      out.down = placer_.list(experts, down);
      placer_.table(out.gate_up);
      placer_.table(out.down);
    }
    out.shared = mlp(shape.shared_intermediate);
  }

  const DecoderConfig& config_;
  Compute compute_;
  WeightPlacer& placer_;
};

}  // namespace

Result<std::unique_ptr<GpuWeights>> make_dummy_weights(
    const DecoderConfig& config,
    kernels::Compute compute,
    device::cuda::Stream& stream
) {
  return place_weights(stream, [&](WeightPlacer& placer, GpuWeights& out) {
    Dummy(config, compute, placer).place(out);
  });
}

}  // namespace pleiad::model::cuda
