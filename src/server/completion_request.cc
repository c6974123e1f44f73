#include "server/completion_request.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include <fmt/core.h>

#include "server/chat_messages.h"
#include "server/field_reader.h"

namespace pleiad::server {
namespace {

constexpr std::int64_t kChoicesPerPromptMax = 128;
constexpr std::size_t kStopStringsMax = 4;
constexpr std::size_t kStopTokensMax = 256;
constexpr std::size_t kLogitBiasMax = 1024;
constexpr std::int64_t kIntMax = std::numeric_limits<std::int32_t>::max();

std::vector<TokenId> token_ids(
    FieldReader& reader,
    std::string_view key,
    const JsonArray& list,
    std::int64_t vocabulary
) {
  auto ids = parse_token_ids(list, vocabulary);
  if (ids.ok()) return *std::move(ids);
  reader.fail(bad_parameter(key, fmt::format("{} must {}", key, ids.error().message)));
  return {};
}

// A token id as a member's name: digits without a leading zero, so that no id has two names.
std::optional<TokenId> written_id(std::string_view text, std::int64_t vocabulary) {
  std::int64_t id = -1;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), id);
  const bool whole = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
  const bool plain = !text.starts_with('-') && (text.size() == 1 || !text.starts_with('0'));
  if (!whole || !plain || id >= vocabulary) return std::nullopt;
  return static_cast<TokenId>(id);
}

void read_logit_bias(FieldReader& reader, const RequestRules& rules, api::Sampling& sampling) {
  const Json* bias = reader.find("logit_bias");
  if (bias == nullptr) return;
  const JsonObject* entries = bias->as_object();
  if (entries == nullptr || entries->size() > kLogitBiasMax) {
    reader.fail(bad_parameter(
        "logit_bias",
        fmt::format("logit_bias must be an object of at most {} entries", kLogitBiasMax)
    ));
    return;
  }
  for (const auto& [key, value] : *entries) {
    const auto id = written_id(key, rules.vocabulary);
    const auto amount = value.as_double();
    if (!id || !amount || !(*amount >= -100.0 && *amount <= 100.0)) {
      reader.fail(bad_parameter(
          "logit_bias",
          fmt::format(
              "logit_bias maps token ids from 0 to {} to numbers between -100 and 100",
              rules.vocabulary - 1
          )
      ));
      return;
    }
    sampling.logit_bias.emplace_back(*id, static_cast<float>(*amount));
  }
}

float number(FieldReader& reader, std::string_view key, float fallback, double low, double high) {
  return static_cast<float>(reader.number(key, static_cast<double>(fallback), low, high));
}

void read_sampling(FieldReader& reader, const RequestRules& rules, CompletionRequest& out) {
  api::Sampling& s = out.sampling;
  s = rules.default_sampling;
  s.temperature = number(reader, "temperature", s.temperature, 0.0, 2.0);
  s.top_p = number(reader, "top_p", s.top_p, 0.0, 1.0);
  if (s.top_p <= 0.0F) {
    reader.fail(bad_parameter("top_p", "top_p must be above 0 and at most 1"));
  }
  // vLLM clients write -1 for "off".
  s.top_k = static_cast<std::int32_t>(
      std::max(std::int64_t{0}, reader.integer("top_k", s.top_k, -1, kIntMax))
  );
  s.min_p = number(reader, "min_p", s.min_p, 0.0, 1.0);
  s.presence_penalty = number(reader, "presence_penalty", s.presence_penalty, -2.0, 2.0);
  s.frequency_penalty = number(reader, "frequency_penalty", s.frequency_penalty, -2.0, 2.0);
  s.repetition_penalty = number(reader, "repetition_penalty", s.repetition_penalty, 0.01, 100.0);
  const auto seed = reader.integer_if(
      "seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()
  );
  out.seeded = seed.has_value();
  s.seed = static_cast<std::uint64_t>(seed.value_or(0));
  read_logit_bias(reader, rules, s);
}

void read_stops(FieldReader& reader, const RequestRules& rules, CompletionRequest& out) {
  out.stop = reader.texts("stop", kStopStringsMax);
  for (const std::string& stop : out.stop) {
    if (stop.empty() || stop.size() > rules.stop_bytes_max) {
      reader.fail(bad_parameter(
          "stop", fmt::format("stop strings must have 1 to {} bytes", rules.stop_bytes_max)
      ));
    }
  }
  if (const Json* ids = reader.find("stop_token_ids")) {
    const JsonArray* list = ids->as_array();
    if (list == nullptr || list->size() > kStopTokensMax) {
      reader.fail(bad_parameter(
          "stop_token_ids",
          fmt::format("stop_token_ids must be a list of at most {} token ids", kStopTokensMax)
      ));
    } else {
      out.stop_tokens = token_ids(reader, "stop_token_ids", *list, rules.vocabulary);
    }
  }
  out.include_stop = reader.boolean("include_stop_str_in_output", false);
  out.ignore_eos = reader.boolean("ignore_eos", false);
}

std::optional<std::int32_t> narrow(std::optional<std::int64_t> value) {
  if (!value) return std::nullopt;
  return static_cast<std::int32_t>(*value);
}

void read_logprobs(FieldReader& reader, CompletionRequest& out) {
  const std::int64_t top_max = api::kTopLogprobsMax;
  if (out.endpoint == Endpoint::Chat) {
    const bool wanted = reader.boolean("logprobs", false);
    const auto top = narrow(reader.integer_if("top_logprobs", 0, top_max));
    if (top.value_or(0) > 0 && !wanted) {
      reader.fail(bad_parameter("top_logprobs", "top_logprobs needs logprobs: true"));
    }
    if (wanted) out.top_logprobs = top.value_or(0);
  } else {
    out.top_logprobs = narrow(reader.integer_if("logprobs", 0, top_max));
  }
  out.prompt_logprobs = narrow(reader.integer_if("prompt_logprobs", 0, top_max));
  if (out.prompt_logprobs && out.stream) {
    reader.fail(bad_parameter("prompt_logprobs", "prompt_logprobs cannot be streamed"));
  }
  out.tokens_as_ids = reader.boolean("return_tokens_as_token_ids", false);
  out.return_token_ids = reader.boolean("return_token_ids", false);
}

void read_prompts(FieldReader& reader, const RequestRules& rules, CompletionRequest& out) {
  const Json* prompt = reader.find("prompt");
  if (prompt == nullptr) {
    reader.fail(bad_parameter("prompt", "prompt is missing"));
    return;
  }
  if (const std::string* text = prompt->as_string()) {
    out.prompts.emplace_back(*text);
    return;
  }
  const JsonArray* list = prompt->as_array();
  if (list == nullptr || list->empty()) {
    reader.fail(bad_parameter(
        "prompt",
        "prompt must be a string, a list of strings, a list of token ids or a list of those"
    ));
    return;
  }
  if (list->front().is_number()) {
    out.prompts.emplace_back(token_ids(reader, "prompt", *list, rules.vocabulary));
    return;
  }
  for (const Json& item : *list) {
    if (const std::string* text = item.as_string()) {
      out.prompts.emplace_back(*text);
    } else if (const JsonArray* ids = item.as_array()) {
      out.prompts.emplace_back(token_ids(reader, "prompt", *ids, rules.vocabulary));
    } else {
      reader.fail(bad_parameter("prompt", "prompt lists hold strings or lists of token ids"));
      return;
    }
  }
}

void read_chat(FieldReader& reader, CompletionRequest& out) {
  auto messages = normalise_messages(reader.find("messages"));
  if (const auto* error = std::get_if<ApiError>(&messages)) {
    reader.fail(*error);
  } else {
    out.messages = std::get<Json>(std::move(messages));
  }
  if (const Json* tools = reader.find("tools")) {
    if (auto error = check_tools(*tools)) reader.fail(*std::move(error));
    out.tools = *tools;
  }
  if (const Json* arguments = reader.find("chat_template_kwargs")) {
    if (!arguments->is_object()) {
      reader.fail(bad_parameter("chat_template_kwargs", "chat_template_kwargs must be an object"));
    }
    out.template_arguments = *arguments;
  }
  if (const Json* choice = reader.find("tool_choice")) {
    const std::string* name = choice->as_string();
    const bool fine = name != nullptr && (*name == "auto" || *name == "none");
    if (!fine) {
      reader.refuse("tool_choice", "tool_choice supports \"auto\" and \"none\"");
    } else if (*name == "none") {
      out.tools = Json();
    }
  }
  out.add_generation_prompt = reader.boolean("add_generation_prompt", true);
}

// A member that would change the answer if it were obeyed, and is not; `neutral` asks for nothing.
struct Unsupported {
  std::string_view key;
  Json neutral;
};

void refuse_unsupported(FieldReader& reader, const CompletionRequest& out) {
  const std::array<Unsupported, 19> unsupported = {{
      {"guided_json", nullptr},
      {"guided_regex", nullptr},
      {"guided_choice", nullptr},
      {"guided_grammar", nullptr},
      {"structured_outputs", nullptr},
      {"functions", JsonArray{}},
      {"chat_template", nullptr},
      {"documents", JsonArray{}},
      {"continue_final_message", false},
      {"modalities", JsonArray{"text"}},
      {"audio", nullptr},
      {"suffix", ""},
      {"best_of", out.n},
      {"use_beam_search", false},
      {"min_tokens", 0},
      {"allowed_token_ids", nullptr},
      {"bad_words", JsonArray{}},
      {"truncate_prompt_tokens", nullptr},
      {"prompt_embeds", nullptr},
  }};
  for (const auto& [key, neutral] : unsupported) {
    const Json* value = reader.find(key);
    if (value == nullptr || *value == neutral) continue;
    reader.refuse(
        key,
        neutral.is_null() ? fmt::format("{} is not supported", key)
                          : fmt::format("{} supports {} only", key, neutral.dump())
    );
  }
  if (const Json* format = reader.find("response_format")) {
    const Json* type = format->find("type");
    const bool text = type != nullptr && *type == Json("text");
    if (!text) reader.refuse("response_format", "response_format supports {\"type\": \"text\"}");
  }
}

void read_lengths(FieldReader& reader, const RequestRules& rules, CompletionRequest& out) {
  out.n = static_cast<std::int32_t>(reader.integer("n", 1, 1, kChoicesPerPromptMax));
  const std::string_view key =
      reader.find("max_completion_tokens") != nullptr ? "max_completion_tokens" : "max_tokens";
  const std::int64_t low = out.endpoint == Endpoint::Chat ? 1 : 0;
  out.max_tokens = narrow(reader.integer_if(key, low, kIntMax));
  const std::int64_t prompts =
      out.endpoint == Endpoint::Chat ? 1 : static_cast<std::int64_t>(out.prompts.size());
  const std::int64_t choices = prompts * out.n;
  if (choices > rules.choices_max) {
    reader.fail(bad_parameter(
        "n", fmt::format("{} choices in all; at most {} are made", choices, rules.choices_max)
    ));
  }
}

void read_stream(FieldReader& reader, CompletionRequest& out) {
  out.stream = reader.boolean("stream", false);
  const Json* options = reader.find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) {
    reader.fail(bad_parameter("stream_options", "stream_options must be an object"));
    return;
  }
  if (!out.stream) {
    reader.fail(bad_parameter("stream_options", "stream_options needs stream: true"));
    return;
  }
  FieldReader inner(*options);
  out.include_usage = inner.boolean("include_usage", false);
  if (inner.error()) reader.fail(*inner.error());
}

}  // namespace

Result<std::vector<TokenId>> parse_token_ids(const JsonArray& list, std::int64_t vocabulary) {
  std::vector<TokenId> out;
  out.reserve(list.size());
  for (const Json& item : list) {
    const auto id = item.as_int();
    if (!item.is_integer() || !id || *id < 0 || *id >= vocabulary) {
      return invalid_input("hold token ids from 0 to {}", vocabulary - 1);
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return out;
}

std::variant<CompletionRequest, ApiError>
parse_completion_request(Endpoint endpoint, const Json& body, const RequestRules& rules) {
  if (!body.is_object()) return ApiError{.message = "the request body must be a JSON object"};
  FieldReader reader(body);
  CompletionRequest out;
  out.endpoint = endpoint;
  out.model = reader.text("model", "");
  read_stream(reader, out);
  if (endpoint == Endpoint::Chat) {
    read_chat(reader, out);
  } else {
    read_prompts(reader, rules, out);
    out.echo = reader.boolean("echo", false);
    out.add_special_tokens = reader.boolean("add_special_tokens", true);
  }
  read_lengths(reader, rules, out);
  read_sampling(reader, rules, out);
  read_stops(reader, rules, out);
  read_logprobs(reader, out);
  out.skip_special_tokens = reader.boolean("skip_special_tokens", true);
  out.cache_salt = reader.text("cache_salt", "");
  out.session = reader.text("prompt_cache_key", reader.text("user", ""));
  const auto priority = narrow(reader.integer_if("priority", -kIntMax, kIntMax));
  out.prioritised = priority.has_value();
  out.priority = priority.value_or(0);
  refuse_unsupported(reader, out);
  if (reader.error()) return *reader.error();
  return out;
}

}  // namespace pleiad::server
