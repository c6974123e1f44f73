#include "server/logprobs.h"

#include <algorithm>
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

// JSON has no infinity; OpenAI writes -9999 for what is next to impossible.
void append_logprob(float value, std::string& out) {
  constexpr float kLowest = -9999.0F;
  fmt::format_to(std::back_inserter(out), "{}", value > kLowest ? value : kLowest);
}

// {"token": ..., "logprob": ..., "bytes": ..., without the closing brace.
void append_chat_token(const TokenNames& names, const api::TokenLogprob& token, std::string& out) {
  out += R"({"token":)";
  append_json_string(names.name(token.token), out);
  out += R"(,"logprob":)";
  append_logprob(token.logprob, out);
  out += R"(,"bytes":)";
  if (names.tokenizer == nullptr) {
    out += "null";
    return;
  }
  append_list(names.tokenizer->token_bytes(token.token), out, [&out](char byte) {
    out += std::to_string(static_cast<unsigned char>(byte));
  });
}

// {"name": logprob}, the chosen token included. Of two tokens written alike the likelier one
// stands: an object cannot hold both.
void append_top_object(const TokenNames& names, const ScoredToken& token, std::string& out) {
  std::vector<std::string> written;
  const auto append = [&](const api::TokenLogprob& entry) {
    std::string name = names.name(entry.token);
    if (std::ranges::find(written, name) != written.end()) return;
    out += written.empty() ? "" : ",";
    append_json_string(name, out);
    out += ':';
    append_logprob(entry.logprob, out);
    written.push_back(std::move(name));
  };
  out += '{';
  for (const api::TokenLogprob& entry : token.top) {
    append(entry);
  }
  append(token.chosen);
  out += '}';
}

}  // namespace

std::size_t characters_in(std::string_view text) {
  const auto begins_character = [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  };
  return static_cast<std::size_t>(std::ranges::count_if(text, begins_character));
}

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
  const std::string_view bytes = tokenizer->token_bytes(token);
  if (is_valid_utf8(bytes)) return std::string(bytes);
  std::string out = "bytes:";
  for (const char byte : bytes) {
    fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return out;
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
      append_logprob(token.chosen.logprob, out);
    } else {
      out += "null";
    }
  });
  out += R"(,"top_logprobs":)";
  append_list(tokens, out, [&](const ScoredToken& token) {
    if (token.scored) {
      append_top_object(names, token, out);
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
    append_logprob(entry.logprob, out);
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
