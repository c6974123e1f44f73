#include "apps/model_text_loader.h"

#include <string>
#include <utility>

#include "base/json.h"
#include "weights/read_file.h"

namespace pleiad::apps {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{4} << 20U;

Result<Json> read_json(const std::filesystem::path& path) {
  PLEIAD_TRY(text, weights::read_text_file(path, kFileBytesMax));
  auto parsed = parse_json(text);
  if (!parsed.ok()) return with_context(std::move(parsed).error(), path.string());
  return *std::move(parsed);
}

// The template named "default" of a list, else its first.
const std::string* pick_template(const Json& value) {
  if (value.is_string()) return value.as_string();
  const JsonArray* list = value.as_array();
  if (list == nullptr) return nullptr;
  const std::string* first = nullptr;
  for (const Json& entry : *list) {
    const Json* name = entry.find("name");
    const Json* source = entry.find("template");
    if (source == nullptr || !source->is_string()) continue;
    if (first == nullptr) first = source->as_string();
    if (name != nullptr && *name == Json("default")) return source->as_string();
  }
  return first;
}

Result<std::optional<std::string>>
find_template(const ModelTextSettings& settings, const Json& tokenizer_config) {
  const auto beside = settings.model / "chat_template.jinja";
  if (settings.chat_template || std::filesystem::exists(beside)) {
    PLEIAD_TRY(
        text, weights::read_text_file(settings.chat_template.value_or(beside), kFileBytesMax)
    );
    return std::optional(std::move(text));
  }
  const Json* member = tokenizer_config.find("chat_template");
  const std::string* source = member == nullptr ? nullptr : pick_template(*member);
  return source == nullptr ? std::nullopt : std::optional(*source);
}

std::string token_text(const text::Tokenizer& tokenizer, std::optional<TokenId> token) {
  return token ? std::string(tokenizer.token_bytes(*token)) : std::string();
}

}  // namespace

Result<server::ModelText> load_model_text(const ModelTextSettings& settings) {
  server::ModelText out;
  if (settings.skip_tokenizer) return out;
  const auto tokenizer_path = settings.model / "tokenizer.json";
  if (!std::filesystem::exists(tokenizer_path)) {
    return not_found(
        "{} is missing; serve token ids with --skip-tokenizer-init", tokenizer_path.string()
    );
  }
  const auto config_path = settings.model / "tokenizer_config.json";
  const bool has_config = std::filesystem::exists(config_path);
  PLEIAD_TRY(
      tokenizer,
      text::Tokenizer::load(tokenizer_path, has_config ? std::optional(config_path) : std::nullopt)
  );
  out.bos_token = token_text(tokenizer, tokenizer.bos());
  out.eos_token = token_text(tokenizer, tokenizer.eos());
  out.tokenizer = std::move(tokenizer);

  Json config;
  if (has_config) {
    PLEIAD_TRY(parsed, read_json(config_path));
    config = std::move(parsed);
  }
  PLEIAD_TRY(source, find_template(settings, config));
  if (source) {
    auto compiled = text::ChatTemplate::compile(*source);
    if (!compiled.ok()) return with_context(std::move(compiled).error(), "chat template");
    out.chat_template = *std::move(compiled);
  }
  return out;
}

Result<api::Sampling> load_default_sampling(const std::filesystem::path& model) {
  api::Sampling out;
  const auto path = model / "generation_config.json";
  if (!std::filesystem::exists(path)) return out;
  PLEIAD_TRY(config, read_json(path));
  const auto number = [&config](std::string_view key, float fallback) {
    const Json* value = config.find(key);
    const auto found = value == nullptr ? std::nullopt : value->as_double();
    return static_cast<float>(found.value_or(static_cast<double>(fallback)));
  };
  // Without do_sample the checkpoint's authors meant greedy decoding only where they also said so
  // by a temperature of 0: clients expect OpenAI's temperature of 1.
  out.temperature = number("temperature", out.temperature);
  out.top_p = number("top_p", out.top_p);
  out.top_k = static_cast<std::int32_t>(number("top_k", static_cast<float>(out.top_k)));
  out.min_p = number("min_p", out.min_p);
  out.repetition_penalty = number("repetition_penalty", out.repetition_penalty);
  const auto valid = api::validate(out, 0);
  if (!valid.ok()) return with_context(valid.error(), path.string());
  return out;
}

}  // namespace pleiad::apps
