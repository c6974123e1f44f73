#include "model/model.h"

#include <array>
#include <string>

#include "model/cuda/gpu_decoder.h"
#include "model/decoder.h"
#include "model/decoder_weights.h"
#include "model/dummy_checkpoint.h"
#include "model/families.h"

namespace pleiad::model {
namespace {

constexpr std::array<Architecture, 6> kArchitectures = {{
    {.name = "DeepseekV2ForCausalLM", .parse = parse_deepseek_v2},
    {.name = "DeepseekV3ForCausalLM", .parse = parse_deepseek_v3},
    {.name = "Glm4MoeForCausalLM", .parse = parse_glm4_moe},
    {.name = "GptOssForCausalLM", .parse = parse_gpt_oss},
    {.name = "MixtralForCausalLM", .parse = parse_mixtral},
    {.name = "Qwen3MoeForCausalLM", .parse = parse_qwen3_moe},
}};

std::string supported_names() {
  std::string names;
  for (const Architecture& row : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

}  // namespace

Result<DecoderConfig> Architecture::describe(const Json& config) const {
  PLEIAD_TRY(out, parse(config));
  PLEIAD_TRY(quantization, parse_quantization_config(config));
  out.quantization = quantization;
  out.moe.quantized = quantization.format != kernels::WeightFormat::Plain;
  return std::move(out);
}

Result<ModelShape>
Architecture::shape(const Json& config, Compute compute, std::int32_t tensor_parts) const {
  PLEIAD_TRY(parsed, describe(config));
  return shape_of(parsed, compute, tensor_parts);
}

Result<std::size_t> Architecture::check(
    const Json& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) const {
  PLEIAD_TRY(parsed, describe(config));
  return check_decoder_weights(parsed, checkpoint, options);
}

Result<UnreadTensors>
Architecture::unread(const Json& config, const weights::Checkpoint& checkpoint) const {
  PLEIAD_TRY(parsed, describe(config));
  const auto layers = static_cast<std::int64_t>(parsed.layers.size());
  return check_unread_tensors(checkpoint, tensor_names(parsed), layers);
}

Result<std::unique_ptr<weights::Checkpoint>>
Architecture::make_dummy(const Json& config, Compute compute) const {
  PLEIAD_TRY(parsed, describe(config));
  return make_dummy_checkpoint(parsed, compute);
}

Result<std::unique_ptr<ModelWeights>> Architecture::load(
    const Json& config,
    const weights::Checkpoint& checkpoint,
    const LoadOptions& options
) const {
  PLEIAD_TRY(parsed, describe(config));
  if (options.gpu) return cuda::load_gpu_decoder(parsed, checkpoint, options);
  return load_decoder(parsed, checkpoint, options);
}

Result<const Architecture*> find_architecture(const Json& config) {
  const Json* list = config.find("architectures");
  const JsonArray* names = list == nullptr ? nullptr : list->as_array();
  if (names == nullptr || names->empty() || !names->front().is_string()) {
    return invalid_input("config.json: architectures must be a list of one name");
  }
  const std::string& name = *names->front().as_string();
  for (const Architecture& row : kArchitectures) {
    if (row.name == name) return &row;
  }
  return unsupported(
      "config.json: architecture {} is not supported; supported: {}", name, supported_names()
  );
}

}  // namespace pleiad::model
