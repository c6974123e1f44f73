#include "model/model_config.h"

#include <string>
#include <vector>

#include "weights/read_file.h"

namespace pleiad::model {
namespace {

constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20U;
// A line for each tensor of the largest models.
constexpr std::size_t kDescriptionBytesMax = std::size_t{64} << 20U;

Result<Json> read_object(const std::filesystem::path& path, std::size_t bytes_max) {
  PLEIAD_TRY(text, weights::read_text_file(path, bytes_max));
  auto parsed = parse_json(text);
  if (!parsed.ok()) return with_context(std::move(parsed).error(), path.string());
  if (!parsed->is_object()) {
    return invalid_input("{}: a {}, not an object", path.string(), parsed->type_name());
  }
  return parsed;
}

std::vector<std::filesystem::path> descriptions_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool fits = name.starts_with("quant_model_description") && name.ends_with(".json");
    if (fits && entry.is_regular_file()) out.push_back(entry.path());
  }
  return out;
}

}  // namespace

Result<Json> read_model_config(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    return not_found("{} is not a model folder (no such directory)", folder.string());
  }
  PLEIAD_TRY(config, read_object(folder / "config.json", kConfigBytesMax));
  const auto descriptions = descriptions_in(folder);
  if (descriptions.empty()) return std::move(config);
  if (descriptions.size() > 1) {
    return invalid_input(
        "{} and {} both describe the weights; keep the one that is theirs",
        descriptions[0].string(),
        descriptions[1].string()
    );
  }
  const Json* other = config.find("quantization_config");
  const Json* method = other == nullptr ? nullptr : other->find("quant_method");
  const bool ascend = method != nullptr && *method == Json("ascend");
  if (other != nullptr && !other->is_null() && !ascend) {
    return invalid_input(
        "{} stands beside a quantization_config of another method in config.json",
        descriptions.front().string()
    );
  }
  PLEIAD_TRY(description, read_object(descriptions.front(), kDescriptionBytesMax));
  Json quantization;
  quantization.set("quant_method", "ascend");
  quantization.set("description", std::move(description));
  config.set("quantization_config", std::move(quantization));
  return std::move(config);
}

}  // namespace pleiad::model
