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

// Where templates may stand in a model folder.
constexpr const char* kTemplateFile = "chat_template.jinja";
constexpr const char* kToolTemplateFile = "additional_chat_templates/tool_use.jinja";

struct TemplateSources {
  std::optional<std::string> all;    // requests
  std::optional<std::string> tools;  // requests with tools, instead of that
};

// Those of tokenizer_config.json's chat_template member.
TemplateSources listed_templates(const Json& value) {
  TemplateSources out;
  if (const std::string* only = value.as_string()) out.all = *only;
  const JsonArray* list = value.as_array();
  if (list == nullptr) return out;
  for (const Json& entry : *list) {
    const Json* name = entry.find("name");
    const Json* source = entry.find("template");
    if (source == nullptr || !source->is_string()) continue;
    const bool tools = name != nullptr && *name == Json("tool_use");
    const bool preset = name != nullptr && *name == Json("default");
    if (tools) out.tools = *source->as_string();
    if (preset || (!tools && !out.all)) out.all = *source->as_string();
  }
  if (!out.all) out.all = out.tools;
  return out;
}

Result<TemplateSources>
find_templates(const ModelTextSettings& settings, const Json& tokenizer_config) {
  TemplateSources out;
  if (settings.chat_template) {
    PLEIAD_TRY(text, weights::read_text_file(*settings.chat_template, kFileBytesMax));
    out.all = std::move(text);
    return out;
  }
  const Json* member = tokenizer_config.find("chat_template");
  if (member != nullptr) out = listed_templates(*member);
  if (std::filesystem::exists(settings.model / kTemplateFile)) {
    PLEIAD_TRY(text, weights::read_text_file(settings.model / kTemplateFile, kFileBytesMax));
    out = {.all = std::move(text), .tools = {}};
  }
  if (std::filesystem::exists(settings.model / kToolTemplateFile)) {
    PLEIAD_TRY(text, weights::read_text_file(settings.model / kToolTemplateFile, kFileBytesMax));
    out.tools = std::move(text);
  }
  return out;
}

Result<std::optional<text::ChatTemplate>>
compile(const std::optional<std::string>& source, std::string_view what) {
  if (!source) return std::optional<text::ChatTemplate>();
  auto compiled = text::ChatTemplate::compile(*source);
  if (!compiled.ok()) return with_context(std::move(compiled).error(), std::string(what));
  return std::optional(*std::move(compiled));
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
    if (settings.tokenizer_may_lack) return out;
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
  PLEIAD_TRY(sources, find_templates(settings, config));
  PLEIAD_TRY(chat, compile(sources.all, "chat template"));
  out.chat_template = std::move(chat);
  PLEIAD_TRY(tools, compile(sources.tools, "chat template for tools"));
  out.tool_template = std::move(tools);
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
