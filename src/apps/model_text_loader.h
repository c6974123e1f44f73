#pragma once

#include <filesystem>
#include <optional>

#include "api/sampling.h"
#include "base/result.h"
#include "server/prompt.h"

namespace pleiad::apps {

struct ModelTextSettings {
  std::filesystem::path model;
  bool skip_tokenizer = false;                         // ids in, ids out
  bool tokenizer_may_lack = false;                     // likewise, where there is no tokenizer.json
  std::optional<std::filesystem::path> chat_template;  // a file that replaces the checkpoint's
};

// Reads tokenizer.json, tokenizer_config.json and the chat template. Blocks. Fails naming the file.
// The template is the first of: the settings' file, chat_template.jinja, and the chat_template
// member of tokenizer_config.json: one string, or a list of named ones of which "default" (else the
// first) is taken. Requests with tools get "tool_use", of that list or from
// additional_chat_templates/tool_use.jinja, where there is one and the settings name no file.
Result<server::ModelText> load_model_text(const ModelTextSettings& settings);

// Sampling defaults of generation_config.json; the neutral ones when there is no such file.
Result<api::Sampling> load_default_sampling(const std::filesystem::path& model);

}  // namespace pleiad::apps
