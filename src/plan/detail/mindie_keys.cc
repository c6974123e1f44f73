#include "plan/detail/mindie_keys.h"

#include <optional>
#include <utility>

#include "plan/ep_settings_text.h"
#include "plan/parallel_layout.h"

namespace pleiad::plan::detail {
namespace {

constexpr std::int64_t kTokensMax = std::int64_t{1} << 31U;
constexpr std::int64_t kGigabytesMax = std::int64_t{1} << 20U;
constexpr std::size_t kTextLengthMax = 4096;

Verdict mapped(std::string flag, std::string value) {
  return {MindieOutcome::Mapped, {std::move(flag), {std::move(value)}}, {}};
}

Verdict ignored(std::string reason) {
  return {MindieOutcome::Ignored, {}, std::move(reason)};
}

template <typename... Args>
Verdict refused(fmt::format_string<Args...> format, Args&&... args) {
  return {MindieOutcome::Refused, {}, fmt::format(format, std::forward<Args>(args)...)};
}

struct Range {
  std::int64_t low = 1;
  std::int64_t high = 0;
};

Verdict refused_outside(const Json& value, const Range& range) {
  const auto number = value.as_double();
  const bool high = number && *number > static_cast<double>(range.high);
  return refused(
      "is {}; it must be a whole number from {} to {}, nearest valid value {}",
      value.dump(),
      range.low,
      range.high,
      high ? range.high : range.low
  );
}

// The value when it is a whole number in `range`.
std::optional<std::int64_t> whole(const Json& value, const Range& range) {
  const auto number = value.as_int();
  return number && *number >= range.low && *number <= range.high ? number : std::nullopt;
}

Verdict mapped_size(const Json& value, std::string flag, const Range& range) {
  const auto number = whole(value, range);
  return number ? mapped(std::move(flag), std::to_string(*number)) : refused_outside(value, range);
}

// The text when it is one that a flag can take.
std::optional<std::string> plain_text(const Json& value) {
  const std::string* text = value.as_string();
  const bool usable = text != nullptr && !text->empty() && text->size() <= kTextLengthMax &&
                      text->find('\0') == std::string::npos;
  return usable ? std::optional(*text) : std::nullopt;
}

Verdict refused_text(const Json& value) {
  return refused("is a {}; it must be a text of 1 to {} bytes", value.type_name(), kTextLengthMax);
}

Verdict refused_bool(const Json& value) {
  return refused("is {}; it must be true or false", value.dump());
}

// Keys of ModelDeployConfig.

Verdict max_seq_len(const Scene& scene) {
  return mapped_size(scene.value, "max-model-len-limit", {.high = kTokensMax});
}

Verdict max_input_token_len(const Scene& scene) {
  const auto tokens = whole(scene.value, {.high = kTokensMax});
  if (!tokens) return refused_outside(scene.value, {.high = kTokensMax});
  const Json* longest = scene.root.find("maxSeqLen");
  const auto limit = longest == nullptr ? std::nullopt : longest->as_int();
  if (limit && *tokens > *limit) {
    return refused(
        "is {}; it must not exceed maxSeqLen {}, nearest valid value {}", *tokens, *limit, *limit
    );
  }
  return ignored("a prompt may fill the context but for one token of output");
}

Verdict truncation(const Scene& scene) {
  const auto value = scene.value.as_bool();
  if (!value) return refused_bool(scene.value);
  if (*value) {
    return refused("is true; prompts are never cut here, those too long are refused: set false");
  }
  return ignored("prompts are never cut here, those too long are refused");
}

// Keys of ModelConfig[0].

Verdict model_instance_type(const Scene& scene) {
  const auto text = plain_text(scene.value);
  if (!text) return refused_text(scene.value);
  if (*text != "Standard") {
    return refused("is {}; the one kind of instance here is \"Standard\"", scene.value.dump());
  }
  return ignored("the one kind of instance there is");
}

Verdict model_name(const Scene& scene) {
  auto text = plain_text(scene.value);
  return text ? mapped("served-model-name", *std::move(text)) : refused_text(scene.value);
}

Verdict model_weight_path(const Scene& scene) {
  auto text = plain_text(scene.value);
  return text ? mapped("model", *std::move(text)) : refused_text(scene.value);
}

Verdict world_size(const Scene& scene) {
  const Range range{.high = kRanksMax};
  const auto ranks = whole(scene.value, range);
  if (!ranks) return refused_outside(scene.value, range);
  const Json* moe_tp_given = scene.parent.find("moe_tp");
  const auto moe_tp = moe_tp_given == nullptr ? 1 : whole(*moe_tp_given, range).value_or(1);
  const Json* moe_ep_given = scene.parent.find("moe_ep");
  if (moe_ep_given == nullptr) {
    if (*ranks % moe_tp == 0) return mapped("ep-size", std::to_string(*ranks / moe_tp));
    return refused(
        "is {}; it must be a multiple of moe_tp {}, nearest valid value {}",
        *ranks,
        moe_tp,
        (*ranks + moe_tp - 1) / moe_tp * moe_tp
    );
  }
  const auto moe_ep = whole(*moe_ep_given, range);
  if (moe_ep && *ranks != *moe_ep * moe_tp) {
    return refused(
        "is {}; it must equal moe_ep {} * moe_tp {}, nearest valid value {}",
        *ranks,
        *moe_ep,
        moe_tp,
        *moe_ep * moe_tp
    );
  }
  return ignored("follows from moe_ep and moe_tp, and agrees with them");
}

Verdict moe_ep(const Scene& scene) {
  return mapped_size(scene.value, "ep-size", {.high = kRanksMax});
}

Verdict moe_tp(const Scene& scene) {
  return mapped_size(scene.value, "moe-tp-size", {.high = kRanksMax});
}

Verdict tp(const Scene& scene) {
  if (scene.value.as_int() == -1) {
    return ignored("-1 is automatic: it follows from the other sizes");
  }
  return mapped_size(scene.value, "tp-size", {.high = kRanksMax});
}

Verdict dp(const Scene& scene) {
  if (scene.value.as_int() == -1) {
    return ignored("-1 is automatic: it follows from the other sizes");
  }
  return mapped_size(scene.value, "dp-size", {.high = kRanksMax});
}

Verdict undivided(const Scene& scene) {
  const auto size = whole(scene.value, {.low = -1, .high = 1});
  if (size && *size != 0) return ignored("1 is how it is here");
  return refused(
      "is {}; this dimension is not divided here, nearest valid value 1", scene.value.dump()
  );
}

Verdict cpu_mem_size(const Scene& scene) {
  const Range range{.low = 0, .high = kGigabytesMax};
  if (!whole(scene.value, range)) return refused_outside(scene.value, range);
  return ignored("preempted sequences are computed again, not kept in a CPU cache");
}

Verdict npu_mem_size(const Scene& scene) {
  if (scene.value.as_int() == -1) return ignored("-1 is automatic: --mem-fraction-static decides");
  const auto gigabytes = whole(scene.value, {.high = kGigabytesMax});
  if (gigabytes) return mapped("kv-cache-bytes", fmt::format("{}gb", *gigabytes));
  return refused(
      "is {}; it must be -1 (automatic) or GB of KV cache from 1 to {}, nearest valid value {}",
      scene.value.dump(),
      kGigabytesMax,
      scene.value.as_double().value_or(0) < 0 ? -1 : 1
  );
}

Verdict backend_type(const Scene& scene) {
  if (!plain_text(scene.value)) return refused_text(scene.value);
  return ignored("names a library of Ascend's; the program brings its own kernels");
}

Verdict trust_remote_code(const Scene& scene) {
  if (!scene.value.as_bool()) return refused_bool(scene.value);
  return ignored("code from a checkpoint is never run");
}

// Keys of ModelConfig[0].models.deepseekv2.

// The ep_level beside a key, when it is a valid one.
std::optional<std::int64_t> level_beside(const Scene& scene) {
  const Json* level = scene.parent.find("ep_level");
  return level == nullptr ? std::nullopt : whole(*level, {.high = 2});
}

Verdict ep_level(const Scene& scene) {
  return mapped_size(scene.value, "ep-level", {.high = 2});
}

Verdict enable_init_routing_cutoff(const Scene& scene) {
  const auto enabled = scene.value.as_bool();
  if (!enabled) return refused_bool(scene.value);
  if (!*enabled) return ignored("off is the default");
  if (level_beside(scene) == 2) {
    return refused("is true with ep_level 2; it needs ep_level 1, or set false");
  }
  return mapped("enable-init-routing-cutoff", "true");
}

Verdict topk_scaling_factor(const Scene& scene) {
  const auto factor = scene.value.as_double();
  if (!factor || !(*factor > 0.0 && *factor <= 1.0)) {
    return refused(
        "is {}; it must be a number in (0, 1], nearest valid value {}",
        scene.value.dump(),
        factor.value_or(1.0) <= 0.0 ? "a small positive one such as 0.01" : "1"
    );
  }
  if (level_beside(scene) == 2) return refused("is given with ep_level 2; it needs ep_level 1");
  const Json* cutoff = scene.parent.find("enable_init_routing_cutoff");
  if (cutoff == nullptr || cutoff->as_bool() != true) {
    return refused(
        "is {} without enable_init_routing_cutoff; set that to true, or leave this out",
        scene.value.dump()
    );
  }
  return mapped("topk-scaling-factor", scene.value.dump());
}

Verdict buffer_scale_factors(const Scene& scene) {
  const auto scales = buffer_scales_from_json(scene.value);
  if (!scales.ok()) return refused("{}", scales.error().message);
  if (level_beside(scene) == 1) return ignored("takes effect with ep_level 2 only");
  return mapped("alltoall-ep-buffer-scale-factors", buffer_scales_text(*scales));
}

Verdict eplb_level(const Scene& scene) {
  if (scene.value.as_int() == 0) return ignored("0 leaves experts where they are, as does no flag");
  return refused(
      "is {}; experts are not rebalanced by a MindIE file, nearest valid value 0",
      scene.value.dump()
  );
}

Verdict eplb_detail(const Scene& scene) {
  const Json* level = scene.parent.find("level");
  if (level == nullptr || level->as_int() == 0) return ignored("has no effect with eplb level 0");
  return ignored("goes with eplb's level, which is refused");
}

constexpr Leaf kDeployKeys[] = {
    {"maxSeqLen", max_seq_len},
    {"maxInputTokenLen", max_input_token_len},
    {"truncation", truncation},
};

constexpr Leaf kModelKeys[] = {
    {"modelInstanceType", model_instance_type},
    {"modelName", model_name},
    {"modelWeightPath", model_weight_path},
    {"worldSize", world_size},
    {"cpuMemSize", cpu_mem_size},
    {"npuMemSize", npu_mem_size},
    {"backendType", backend_type},
    {"trustRemoteCode", trust_remote_code},
    {"moe_ep", moe_ep},
    {"moe_tp", moe_tp},
    {"tp", tp},
    {"dp", dp},
    {"pp", undivided},
    {"sp", undivided},
    {"cp", undivided},
};

constexpr Leaf kFamilyKeys[] = {
    {"ep_level", ep_level},
    {"enable_init_routing_cutoff", enable_init_routing_cutoff},
    {"topk_scaling_factor", topk_scaling_factor},
    {"alltoall_ep_buffer_scale_factors", buffer_scale_factors},
};

constexpr Leaf kEplbKeys[] = {
    {"level", eplb_level},
    {"expert_map_file", eplb_detail},
    {"num_redundant_experts", eplb_detail},
    {"aggregate_threshold", eplb_detail},
    {"buffer_expert_layer_num", eplb_detail},
    {"num_expert_update_ready_countdown", eplb_detail},
};

}  // namespace

std::span<const Leaf> deploy_keys() {
  return kDeployKeys;
}

std::span<const Leaf> model_keys() {
  return kModelKeys;
}

std::span<const Leaf> family_keys() {
  return kFamilyKeys;
}

std::span<const Leaf> eplb_keys() {
  return kEplbKeys;
}

}  // namespace pleiad::plan::detail
