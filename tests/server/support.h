#pragma once

#include <cstdlib>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "api/generation.h"
#include "base/json.h"
#include "base/token.h"
#include "text/tokenizer.h"

namespace pleiad {

// How failed expectations show a value.
inline void PrintTo(const Json& value, std::ostream* out) {  // NOLINT: GoogleTest's name
  *out << value.dump();
}

}  // namespace pleiad

namespace pleiad::server {

// The bundled model's tokenizer, read once.
inline const text::Tokenizer& fable() {
  static const text::Tokenizer tokenizer = [] {
    const std::string folder = PLEIAD_SOURCE_DIR "/models/fable/";
    return *text::Tokenizer::load(folder + "tokenizer.json", folder + "tokenizer_config.json");
  }();
  return tokenizer;
}

inline std::vector<TokenId> encode(std::string_view text) {
  return *fable().encode(text);
}

// The one token whose bytes are `text`.
inline TokenId token(std::string_view text) {
  const auto id = fable().id_of(text);
  EXPECT_TRUE(id.has_value()) << text;
  return id.value_or(0);
}

// `text` as JSON; the test fails when it is none.
inline Json json(std::string_view text) {
  auto parsed = parse_json(text);
  EXPECT_TRUE(parsed.ok()) << text;
  return parsed.ok() ? *std::move(parsed) : Json();
}

// The value at `path`, whose steps are member names and indices; null when there is none.
inline Json at(const Json& value, const std::vector<std::string>& path) {
  const Json* here = &value;
  for (const std::string& step : path) {
    if (const JsonArray* list = here->as_array()) {
      const std::size_t index = static_cast<std::size_t>(std::atoi(step.c_str()));
      here = index < list->size() ? &(*list)[index] : nullptr;
    } else {
      here = here->find(step);
    }
    if (here == nullptr) return {};
  }
  return *here;
}

inline bool has(const Json& value, std::string_view key) {
  return value.find(key) != nullptr;
}

// An output token with score -0.5 and `top_count` alternatives, the token itself first.
inline api::TokenEvent event_of(TokenId token, std::int32_t top_count = 0) {
  api::TokenEvent event;
  event.chosen = {token, -0.5F};
  event.top_count = top_count;
  for (std::int32_t i = 0; i < top_count; ++i) {
    event.top[static_cast<std::size_t>(i)] = {
        token + static_cast<TokenId>(i), -0.5F - static_cast<float>(i)};
  }
  return event;
}

}  // namespace pleiad::server
