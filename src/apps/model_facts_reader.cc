#include "apps/model_facts_reader.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "model/config_reader.h"
#include "model/model.h"
#include "model/tensor_role.h"
#include "weights/checkpoint.h"
#include "weights/read_file.h"

namespace pleiad::apps {
namespace {

constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20U;
constexpr std::int64_t kFloatBytes = 4;

// Sums over tensors, in bytes as they are kept in memory.
struct TensorSums {
  std::int64_t experts = 0;
  std::int64_t dense = 0;
  std::int64_t embedding = 0;   // of the dense ones, the input table
  std::int64_t shared_out = 0;  // of the dense ones, what tensor parallel ranks divide
  std::int64_t expert_parameters = 0;
};

// Numbers become elements of the compute type, but for gates; what is quantised stays as it is.
std::int64_t
packed_bytes(model::TensorRole role, const device::TensorView& tensor, std::int64_t element) {
  const device::DType dtype = tensor.dtype;
  const bool number =
      dtype == device::DType::F32 || dtype == device::DType::BF16 || dtype == device::DType::F16;
  if (!number) return static_cast<std::int64_t>(tensor.bytes.size());
  return tensor.shape.elements() * (role == model::TensorRole::Gate ? kFloatBytes : element);
}

// Whether the ranks of a tensor parallel group hold a part of the tensor each: all products but
// those into a latent.
bool is_shared_out(model::TensorRole role, std::string_view name) {
  const bool product = role == model::TensorRole::Attention ||
                       role == model::TensorRole::DenseMlp || role == model::TensorRole::Head;
  return product && name.find("_a_proj") == std::string_view::npos;
}

Result<TensorSums>
sum_tensors(const weights::Checkpoint& checkpoint, std::int64_t layers, std::int64_t element) {
  TensorSums sums;
  for (const std::string& name : checkpoint.names()) {
    const model::TensorRole role = model::role_of(name, layers);
    if (role == model::TensorRole::Unused) continue;
    PLEIAD_TRY(tensor, checkpoint.tensor(name));
    const std::int64_t bytes = packed_bytes(role, tensor, element);
    if (role == model::TensorRole::Experts) {
      sums.experts += bytes;
      sums.expert_parameters += model::parameters_of(name, tensor);
      continue;
    }
    sums.dense += bytes;
    if (role == model::TensorRole::Embedding) sums.embedding += bytes;
    if (is_shared_out(role, name)) sums.shared_out += bytes;
  }
  return sums;
}

model::Compute compute_of(engine::ComputeChoice choice, std::string_view stored) {
  if (choice == engine::ComputeChoice::Float32) return model::Compute::Float32;
  if (choice == engine::ComputeChoice::BFloat16) return model::Compute::BFloat16;
  return stored == "float32" ? model::Compute::Float32 : model::Compute::BFloat16;
}

// Activations of a step: the residual and its copies, queries and sums over the cache's width, the
// products of chosen experts, logits. A tenth above what the bundled model plans.
std::int64_t scratch_estimate(
    const plan::ModelFacts& facts,
    const model::ModelShape& shape,
    const ModelFactsRequest& request,
    std::int64_t expert_elements
) {
  const std::int64_t intermediate = expert_elements / (3 * facts.hidden);
  const std::int64_t experts = (facts.topk + 1) * (facts.hidden + 3 * intermediate);
  const std::int64_t attention = 4 * facts.attention_heads * shape.cache.width;
  const std::int64_t row = 4 * facts.hidden + experts + attention;
  return (request.step_rows * row + request.logit_rows * facts.vocabulary) * kFloatBytes;
}

Result<Json> read_config(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    return not_found("{} is not a model folder (no such directory)", folder.string());
  }
  const auto path = folder / "config.json";
  PLEIAD_TRY(text, weights::read_text_file(path, kConfigBytesMax));
  auto config = parse_json(text);
  if (!config.ok()) return with_context(std::move(config).error(), path.string());
  return config;
}

std::string folder_name(const std::filesystem::path& folder) {
  const auto absolute = std::filesystem::absolute(folder).lexically_normal();
  return absolute.has_filename() ? absolute.filename().string()
                                 : absolute.parent_path().filename().string();
}

}  // namespace

Result<plan::ModelFacts> read_model_facts(const ModelFactsRequest& request) {
  PLEIAD_TRY(config, read_config(request.model));
  PLEIAD_TRY(architecture, model::find_architecture(config));
  model::ConfigReader reader(config);
  const std::string stored = reader.text_or("torch_dtype", reader.text_or("dtype", "bfloat16"));
  const model::Compute compute = compute_of(request.dtype, stored);
  PLEIAD_TRY(shape, architecture->shape(config, compute));
  plan::ModelFacts facts{
      .name = folder_name(request.model),
      .layers = reader.integer("num_hidden_layers", 1),
      .moe_layers = shape.moe_layers,
      .hidden = shape.moe.hidden,
      .experts = shape.moe.gate.experts,
      .topk = shape.moe.gate.topk,
      .expert_groups = shape.moe.gate.groups,
      .groups_per_token = shape.moe.gate.topk_groups,
      .vocabulary = shape.vocabulary,
      .positions_max = shape.positions_max,
      .attention_heads = shape.heads,
      .kv_heads = shape.kv_heads,
      .expert_partial_sums = ep::expert_partial_sums(shape.moe)};
  PLEIAD_TRY(reader.result());
  if (facts.moe_layers < 1 || facts.experts < 1) {
    return unsupported("{} has no routed experts to plan for", request.model.string());
  }
  PLEIAD_TRY(checkpoint, weights::Checkpoint::open(request.model));
  const std::int64_t element = compute == model::Compute::Float32 ? kFloatBytes : 2;
  PLEIAD_TRY(sums, sum_tensors(*checkpoint, facts.layers, element));
  const std::int64_t all_experts = facts.moe_layers * facts.experts;
  const std::int64_t expert_elements = (sums.expert_parameters + all_experts - 1) / all_experts;
  facts.expert_bytes = (sums.experts + all_experts - 1) / all_experts;
  facts.dense_bytes = sums.dense;
  const bool tied = reader.boolean_or("tie_word_embeddings", false);
  facts.dense_step_bytes = facts.dense_bytes - (tied ? 0 : sums.embedding);
  facts.shared_out_bytes = sums.shared_out;
  facts.bytes_per_parameter =
      static_cast<double>(facts.expert_bytes) / static_cast<double>(expert_elements);
  facts.activation_bytes = element;
  const auto page_bytes = static_cast<std::int64_t>(shape.cache.page_bytes_all_layers());
  facts.kv_bytes_per_token = (page_bytes + model::kPageTokens - 1) / model::kPageTokens;
  facts.scratch_bytes = scratch_estimate(facts, shape, request, expert_elements);
  return facts;
}

}  // namespace pleiad::apps
