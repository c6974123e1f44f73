#include "model/weight_description.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "model/tensor_role.h"

namespace pleiad::model {
namespace {

constexpr std::string_view kFile = "quant_model_description.json";

// Members about more than weights; with a value other than none they ask for what is not computed.
constexpr std::array<std::string_view, 5> kOtherTypes =
    {"kv_quant_type", "kv_cache_type", "fa_quant_type", "reduce_quant_type", "quarot"};

bool is_none(const Json& value) {
  if (value.is_null() || value == Json(false) || value == Json("FLOAT")) return true;
  const std::string* text = value.as_string();
  const JsonObject* members = value.as_object();
  return (text != nullptr && text->empty()) || (members != nullptr && members->empty());
}

Result<void> check_other_types(const JsonObject& members) {
  for (const auto& [name, value] : members) {
    const bool asks = std::ranges::find(kOtherTypes, name) != kOtherTypes.end() && !is_none(value);
    if (asks) return unsupported("{}: {} {} is not computed", kFile, name, value.dump());
  }
  return {};
}

// Whether a member of this name speaks of a tensor or module that is computed.
bool is_computed(std::string_view name, std::int64_t layers) {
  if (!name.starts_with("model.") && !name.starts_with("lm_head.")) return false;
  return role_of(name, layers) != TensorRole::Unused;
}

}  // namespace

Result<QuantizationConfig> parse_weight_description(const Json& description, std::int64_t layers) {
  const JsonObject* members = description.as_object();
  if (members == nullptr) return invalid_input("{} must be an object", kFile);
  PLEIAD_TRY(check_other_types(*members));
  const Json* metadata = description.find("metadata");
  if (metadata != nullptr && metadata->is_object()) {
    PLEIAD_TRY(check_other_types(*metadata->as_object()));
  }
  QuantizationConfig out;
  std::vector<std::string> coded;
  for (const auto& [name, value] : *members) {
    const std::string* type = value.as_string();
    if (type == nullptr || !is_computed(name, layers) || *type == "FLOAT") continue;
    if (*type != "W8A8_DYNAMIC") {
      return unsupported("{}: {} is {}; computed: FLOAT, W8A8_DYNAMIC", kFile, name, *type);
    }
    out.format = kernels::WeightFormat::Int8Channel;
    if (name.ends_with(".weight")) coded.push_back(name);
  }
  std::ranges::sort(coded);
  out.coded = std::move(coded);
  return out;
}

}  // namespace pleiad::model
