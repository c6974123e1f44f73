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
  std::optional<std::filesystem::path> chat_template;  // a file that replaces the checkpoint's
};

// Reads tokenizer.json, tokenizer_config.json and the chat template (its chat_template member, one
// string or a list of named ones, or the file chat_template.jinja). Blocks. Fails naming the file.
Result<server::ModelText> load_model_text(const ModelTextSettings& settings);

// Sampling defaults of generation_config.json; the neutral ones when there is no such file.
Result<api::Sampling> load_default_sampling(const std::filesystem::path& model);

}  // namespace pleiad::apps
