#include "plan/ep_settings_text.h"

#include <utility>

namespace pleiad::plan {
namespace {

constexpr std::string_view kScalesKey = "alltoall_ep_buffer_scale_factors";

}  // namespace

std::string_view to_string(EpLevel level) {
  switch (level) {
    case EpLevel::Auto:
      return "auto";
    case EpLevel::AllGather:
      return "1";
    case EpLevel::AllToAll:
      return "2";
  }
  return "auto";
}

Result<EpLevel> parse_ep_level(std::string_view text) {
  if (text == "auto") return EpLevel::Auto;
  if (text == "1") return EpLevel::AllGather;
  if (text == "2") return EpLevel::AllToAll;
  return invalid_input("ep_level is {}; it must be 1 (AllGather), 2 (AllToAll) or auto", text);
}

std::string_view to_string(Routing routing) {
  switch (routing) {
    case Routing::Gate:
      return "gate";
    case Routing::Hash:
      return "hash";
  }
  return "gate";
}

Result<Routing> parse_routing(std::string_view text) {
  if (text == "gate") return Routing::Gate;
  if (text == "hash") return Routing::Hash;
  return invalid_input("routing is {}; it must be gate or hash", text);
}

Result<std::vector<BufferScale>> buffer_scales_from_json(const Json& list) {
  const JsonArray* entries = list.as_array();
  if (entries == nullptr) {
    return invalid_input(
        "{} is a {}; it must be a list of [tokens, factor] pairs", kScalesKey, list.type_name()
    );
  }
  EpSettings settings{.level = EpLevel::AllToAll};
  auto& scales = settings.alltoall_ep_buffer_scale_factors;
  scales.clear();
  for (const Json& entry : *entries) {
    const JsonArray* pair = entry.as_array();
    const bool is_pair = pair != nullptr && pair->size() == 2;
    const auto tokens = is_pair ? (*pair)[0].as_int() : std::nullopt;
    const auto factor = is_pair ? (*pair)[1].as_double() : std::nullopt;
    if (!tokens || !factor) {
      return invalid_input(
          "{}: entry {} is {}; it must be [tokens, factor], a whole number and a number, such as "
          "[8192, 5.2]",
          kScalesKey,
          scales.size(),
          entry.dump()
      );
    }
    scales.push_back({*tokens, *factor});
  }
  PLEIAD_TRY(validate(settings));
  return std::move(scales);
}

Result<std::vector<BufferScale>> parse_buffer_scales(std::string_view text) {
  auto list = parse_json(text);
  if (!list.ok()) return with_context(std::move(list).error(), kScalesKey);
  return buffer_scales_from_json(*list);
}

std::string buffer_scales_text(const std::vector<BufferScale>& scales) {
  JsonArray list;
  for (const BufferScale& scale : scales) {
    list.emplace_back(JsonArray{Json(scale.tokens), Json(scale.factor)});
  }
  return Json(std::move(list)).dump();
}

}  // namespace pleiad::plan
