#include "server/logprobs.h"

#include <string_view>

#include <fmt/core.h>
#include <fmt/format.h>

#include "base/json.h"
#include "base/utf8.h"

namespace pleiad::server {
namespace {

// Calls `append` for each item of `items`, with commas between.
template <typename Items, typename Append>
void append_list(const Items& items, std::string& out, Append append) {
  out += '[';
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += ',';
    first = false;
    append(item);
  }
  out += ']';
}

void append_number(float value, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}", value);
}

// {"token": ..., "logprob": ..., "bytes": ..., without the closing brace.
void append_chat_token(const TokenNames& names, const api::TokenLogprob& token, std::string& out) {
  out += R"({"token":)";
  append_json_string(names.name(token.token), out);
  out += R"(,"logprob":)";
  append_number(token.logprob, out);
  out += R"(,"bytes":)";
  if (names.tokenizer == nullptr) {
    out += "null";
    return;
  }
  append_list(names.tokenizer->token_bytes(token.token), out, [&out](char byte) {
    out += std::to_string(static_cast<unsigned char>(byte));
  });
}

void append_top_object(
    const TokenNames& names,
    std::span<const api::TokenLogprob> top,
    std::string& out
) {
  out += '{';
  for (std::size_t i = 0; i < top.size(); ++i) {
    if (i > 0) out += ',';
    append_json_string(names.name(top[i].token), out);
    out += ':';
    append_number(top[i].logprob, out);
  }
  out += '}';
}

}  // namespace

ScoredToken scored_token(const api::TokenEvent& event, std::size_t text_offset) {
  const auto top = std::span(event.top).first(static_cast<std::size_t>(event.top_count));
  return {
      .chosen = event.chosen,
      .top = {top.begin(), top.end()},
      .text_offset = text_offset,
  };
}

std::string TokenNames::name(TokenId token) const {
  if (as_ids || tokenizer == nullptr) return fmt::format("token_id:{}", token);
  return replace_invalid_utf8(tokenizer->token_bytes(token));
}

void append_chat_logprobs(
    const TokenNames& names,
    std::span<const ScoredToken> tokens,
    std::string& out
) {
  out += R"({"content":)";
  append_list(tokens, out, [&](const ScoredToken& token) {
    append_chat_token(names, token.chosen, out);
    out += R"(,"top_logprobs":)";
    append_list(token.top, out, [&](const api::TokenLogprob& alternative) {
      append_chat_token(names, alternative, out);
      out += '}';
    });
    out += '}';
  });
  out += R"(,"refusal":null})";
}

void append_completion_logprobs(
    const TokenNames& names,
    std::span<const ScoredToken> tokens,
    std::string& out
) {
  out += R"({"tokens":)";
  append_list(tokens, out, [&](const ScoredToken& token) {
    append_json_string(names.name(token.chosen.token), out);
  });
  out += R"(,"token_logprobs":)";
  append_list(tokens, out, [&](const ScoredToken& token) {
    if (token.scored) {
      append_number(token.chosen.logprob, out);
    } else {
      out += "null";
    }
  });
  out += R"(,"top_logprobs":)";
  append_list(tokens, out, [&](const ScoredToken& token) {
    if (token.scored) {
      append_top_object(names, token.top, out);
    } else {
      out += "null";
    }
  });
  out += R"(,"text_offset":)";
  append_list(tokens, out, [&](const ScoredToken& token) {
    out += std::to_string(token.text_offset);
  });
  out += '}';
}

void append_prompt_logprobs(
    const TokenNames& names,
    std::span<const ScoredToken> tokens,
    std::string& out
) {
  const auto append_entry = [&](const api::TokenLogprob& entry) {
    out += fmt::format(R"("{}":{{"logprob":)", entry.token);
    append_number(entry.logprob, out);
    out += R"(,"decoded_token":)";
    append_json_string(names.name(entry.token), out);
    out += '}';
  };
  append_list(tokens, out, [&](const ScoredToken& token) {
    if (!token.scored) {
      out += "null";
      return;
    }
    out += '{';
    append_entry(token.chosen);
    for (const api::TokenLogprob& alternative : token.top) {
      if (alternative.token == token.chosen.token) continue;
      out += ',';
      append_entry(alternative);
    }
    out += '}';
  });
}

}  // namespace pleiad::server
