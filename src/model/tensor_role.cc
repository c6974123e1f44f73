#include "model/tensor_role.h"

#include <charconv>
#include <optional>

namespace pleiad::model {
namespace {

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

// The layer in a tensor's name, if there is one: 12 in "model.layers.12.mlp.gate.weight".
std::optional<std::int64_t> layer_of(std::string_view name) {
  constexpr std::string_view kMark = "layers.";
  const std::size_t mark = name.find(kMark);
  if (mark == std::string_view::npos) return std::nullopt;
  std::int64_t layer = 0;
  const char* begin = name.data() + mark + kMark.size();
  const auto [end, error] = std::from_chars(begin, name.data() + name.size(), layer);
  return error == std::errc{} && end != begin ? std::optional(layer) : std::nullopt;
}

}  // namespace

TensorRole role_of(std::string_view name, std::int64_t layers) {
  if (layer_of(name).value_or(0) >= layers) return TensorRole::Unused;
  if (contains(name, "embed_tokens.")) return TensorRole::Embedding;
  if (contains(name, "lm_head.")) return TensorRole::Head;
  if (contains(name, ".shared_experts.")) return TensorRole::SharedExperts;
  if (contains(name, ".experts.")) return TensorRole::Experts;
  if (contains(name, ".gate.") || contains(name, ".router.")) return TensorRole::Gate;
  if (contains(name, "norm.")) return TensorRole::Norm;
  if (contains(name, ".self_attn.")) return TensorRole::Attention;
  return TensorRole::DenseMlp;
}

std::string_view to_string(TensorRole role) {
  switch (role) {
    case TensorRole::Embedding:
      return "embedding";
    case TensorRole::Attention:
      return "attention";
    case TensorRole::DenseMlp:
      return "dense mlp";
    case TensorRole::Experts:
      return "experts";
    case TensorRole::SharedExperts:
      return "shared experts";
    case TensorRole::Gate:
      return "gate";
    case TensorRole::Norm:
      return "norms";
    case TensorRole::Head:
      return "head";
    case TensorRole::Unused:
      return "unused";
  }
  return "unused";
}

std::int64_t parameters_of(std::string_view name, const device::TensorView& tensor) {
  const std::int64_t elements = tensor.shape.elements();
  const bool scales = name.ends_with("_scale_inv") || name.ends_with("_scale") ||
                      name.ends_with("_scales") || name.ends_with("_shape");
  if (scales) return 0;
  if (name.ends_with("_packed")) return elements * 8;  // nibbles of a word of 32 bits
  if (name.ends_with("_blocks")) return elements * 2;  // nibbles of a byte
  return elements;
}

}  // namespace pleiad::model
