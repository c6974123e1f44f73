#include "model/unread_tensors.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/tensor_role.h"

namespace pleiad::model {
namespace {

// Scales of an eight-bit cache, as the makers of such checkpoints call them.
constexpr std::array<std::string_view, 6> kCacheScales = {
    ".k_scale",
    ".v_scale",
    ".kv_scale",
    ".kv_cache_scaling_factor",
    ".k_proj.output_scale",
    ".v_proj.output_scale",
};

// What belongs to a matrix beside or instead of the tensor of its own name.
constexpr std::array<std::string_view, 7> kCompanions =
    {"_scale_inv", "_scale", "_offset", "_packed", "_shape", "_blocks", "_scales"};

constexpr std::size_t kShownNames = 12;

using Names = std::span<const std::string>;

bool contains(Names names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

// Whether a matrix stored as it is has `companion`.
bool has_companion(
    const weights::Checkpoint& checkpoint,
    const std::string& matrix,
    std::string_view companion
) {
  const auto tensor = checkpoint.tensor(matrix);
  if (tensor.ok()) {
    if (tensor->dtype == device::DType::F8E4M3) return companion == "_scale_inv";
    return tensor->dtype == device::DType::I8 && (companion == "_scale" || companion == "_offset");
  }
  if (checkpoint.contains(matrix + "_packed")) {
    return companion == "_packed" || companion == "_scale" || companion == "_shape";
  }
  return companion == "_blocks" || companion == "_scales";
}

bool is_read(const weights::Checkpoint& checkpoint, Names read, std::string_view name) {
  if (contains(read, name)) return true;
  return std::ranges::any_of(kCompanions, [&](std::string_view companion) {
    if (!name.ends_with(companion)) return false;
    const std::string matrix(name.substr(0, name.size() - companion.size()));
    return contains(read, matrix) && has_companion(checkpoint, matrix, companion);
  });
}

// The count that excuses the tensor, or none.
std::int64_t* excuse(std::string_view name, Names read, std::int64_t layers, UnreadTensors& out) {
  const bool further = role_of(name, layers) == TensorRole::Unused;
  if (further || name.starts_with("model.mtp")) return &out.further_layers;
  if (name.find("rotary_emb.") != std::string_view::npos) return &out.frequencies;
  const bool cache_scale = std::ranges::any_of(kCacheScales, [&](std::string_view suffix) {
    return name.ends_with(suffix);
  });
  if (cache_scale) return &out.cache_scales;
  const bool tied = !contains(read, "lm_head.weight");
  if (tied && name == "lm_head.weight") return &out.tied_heads;
  const bool inside = name.starts_with("model.") || name.starts_with("lm_head.");
  return inside ? nullptr : &out.outside;
}

// What the model reads where `name` stands: the parts of names that follow the longest prefix they
// have in common.
std::string expected_at(std::string_view name, Names read) {
  for (std::size_t dot = name.rfind('.'); dot != std::string_view::npos && dot > 0;
       dot = name.rfind('.', dot - 1)) {
    const std::string_view prefix = name.substr(0, dot + 1);
    std::vector<std::string_view> parts;
    for (auto at = std::lower_bound(read.begin(), read.end(), prefix);
         at != read.end() && at->starts_with(prefix) && parts.size() <= kShownNames;
         ++at) {
      const std::string_view rest = std::string_view(*at).substr(prefix.size());
      const std::string_view part = rest.substr(0, rest.find('.'));
      if (parts.empty() || parts.back() != part) parts.push_back(part);
    }
    if (parts.empty()) continue;
    if (parts.size() > kShownNames) parts.back() = "...";
    return fmt::format("{} below {}", fmt::join(parts, ", "), prefix);
  }
  return "nothing";
}

}  // namespace

Result<UnreadTensors> check_unread_tensors(
    const weights::Checkpoint& checkpoint,
    std::span<const std::string> read,
    std::int64_t layers
) {
  UnreadTensors out;
  for (const std::string& name : checkpoint.names()) {
    if (is_read(checkpoint, read, name)) continue;
    std::int64_t* count = excuse(name, read, layers, out);
    if (count == nullptr) {
      return unsupported(
          "tensor {} is none that this model reads, and leaving it out would change its answers; "
          "expected there: {}",
          name,
          expected_at(name, read)
      );
    }
    ++*count;
  }
  return out;
}

}  // namespace pleiad::model
