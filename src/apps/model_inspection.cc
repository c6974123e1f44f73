#include "apps/model_inspection.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "apps/model_text_loader.h"
#include "ep/moe_weights.h"
#include "model/config_reader.h"
#include "model/model.h"
#include "model/model_config.h"
#include "model/tensor_role.h"
#include "plan/parallel_layout.h"
#include "weights/checkpoint.h"

namespace pleiad::apps {
namespace {

void note(ModelInspection& out, const Error& error) {
  out.problems.push_back(error.message);
}

std::int64_t kv_bytes_per_token(const model::ModelShape& shape) {
  const auto page = static_cast<std::int64_t>(shape.cache.page_bytes_all_layers());
  return (page + model::kPageTokens - 1) / model::kPageTokens;
}

void set_shape(
    const model::Architecture& architecture,
    const Json& config,
    const model::ModelShape& shape,
    ModelInspection& out
) {
  const kernels::GateOptions& gate = shape.moe.gate;
  out.layers = shape.cache.layers;
  out.moe_layers = shape.moe_layers;
  out.experts = gate.experts;
  out.topk = shape.moe_layers > 0 ? gate.topk : 0;
  out.vocabulary = shape.vocabulary;
  out.positions_max = shape.positions_max;
  out.kv_bytes_float32 = kv_bytes_per_token(shape);
  const auto narrow = architecture.shape(config, model::Compute::BFloat16);
  if (narrow.ok()) out.kv_bytes_bfloat16 = kv_bytes_per_token(*narrow);
  for (std::int64_t size = 1; size <= gate.experts; ++size) {
    if (gate.experts % size == 0) out.even_ep_sizes.push_back(size);
  }
  for (const std::int64_t size : {1, 2, 4}) {
    const bool splits = ep::expert_partial_sums(shape.moe) % size == 0;
    if (shape.moe_layers > 0 && splits) out.moe_tp_sizes.push_back(size);
  }
  for (std::int64_t size = 1; size <= shape.heads; ++size) {
    const auto parts = static_cast<std::int32_t>(size);
    if (plan::check_heads(parts, shape.heads, shape.kv_heads).ok()) out.tp_sizes.push_back(size);
  }
}

void sum_tensors(const weights::Checkpoint& checkpoint, ModelInspection& out) {
  std::map<std::pair<model::TensorRole, device::DType>, ModelInspection::Share> shares;
  for (const std::string& name : checkpoint.names()) {
    const auto tensor = checkpoint.tensor(name);
    if (!tensor.ok()) continue;
    const model::TensorRole role = model::role_of(name, out.layers);
    auto& share = shares[{role, tensor->dtype}];
    const std::int64_t parameters = model::parameters_of(name, *tensor);
    ++share.tensors;
    share.parameters += parameters;
    share.bytes += static_cast<std::int64_t>(tensor->bytes.size());
    if (role == model::TensorRole::Unused) continue;
    out.parameters += parameters;
    const bool routed = role == model::TensorRole::Experts && out.experts > 0;
    out.active_parameters += routed ? parameters * out.topk / out.experts : parameters;
  }
  for (auto& [key, share] : shares) {
    share.role = model::to_string(key.first);
    share.dtype = device::to_string(key.second);
    out.shares.push_back(std::move(share));
  }
}

void inspect_weights(
    const std::filesystem::path& folder,
    const model::Architecture* architecture,
    const Json& config,
    ModelInspection& out
) {
  const auto checkpoint = weights::Checkpoint::open(folder);
  if (!checkpoint.ok()) return note(out, checkpoint.error());
  sum_tensors(**checkpoint, out);
  if (architecture == nullptr) return;
  // A tensor that should be read is told of by check().
  if (const auto unread = architecture->unread(config, **checkpoint); unread.ok()) {
    out.unread = *unread;
  }
  const auto packed = [&](model::Compute compute) -> std::optional<std::size_t> {
    const auto bytes = architecture->check(config, **checkpoint, {.compute = compute});
    if (bytes.ok()) return *bytes;
    if (compute == model::Compute::Float32) note(out, bytes.error());
    return std::nullopt;
  };
  out.packed_bytes_float32 = packed(model::Compute::Float32);
  out.packed_bytes_bfloat16 = packed(model::Compute::BFloat16);
}

void inspect_text(const std::filesystem::path& folder, ModelInspection& out) {
  const auto text = load_model_text({.model = folder});
  if (!text.ok()) return note(out, text.error());
  if (text->tokenizer) out.tokens = static_cast<std::int64_t>(text->tokenizer->vocab_size());
  out.bos_token = text->bos_token;
  out.eos_token = text->eos_token;
  out.chat_template = text->chat_template.has_value();
  if (out.vocabulary > 0 && out.tokens > out.vocabulary) {
    note(
        out,
        invalid_input(
            "tokenizer.json has {} tokens, config.json's vocab_size is {}",
            out.tokens,
            out.vocabulary
        )
    );
  }
}

}  // namespace

ModelInspection inspect_model(const std::filesystem::path& folder) {
  ModelInspection out;
  const auto config = model::read_model_config(folder);
  if (!config.ok()) {
    note(out, config.error());
    return out;
  }
  const Json* names = config->find("architectures");
  const JsonArray* list = names == nullptr ? nullptr : names->as_array();
  if (list != nullptr && !list->empty() && list->front().is_string()) {
    out.architecture = *list->front().as_string();
  }
  const auto architecture = model::find_architecture(*config);
  const model::Architecture* known = nullptr;
  if (!architecture.ok()) {
    note(out, architecture.error());
    out.layers = model::ConfigReader(*config).integer_or("num_hidden_layers", 1, INT32_MAX);
  } else if (const auto shape = (*architecture)->shape(*config, model::Compute::Float32);
             shape.ok()) {
    known = *architecture;
    set_shape(*known, *config, *shape, out);
  } else {
    note(out, shape.error());
    out.layers = model::ConfigReader(*config).integer_or("num_hidden_layers", 1, INT32_MAX);
  }
  inspect_weights(folder, known, *config, out);
  inspect_text(folder, out);
  return out;
}

}  // namespace pleiad::apps
