#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "text/detail/byte_alphabet.h"
#include "text/tokenizer.h"

namespace pleiad::text {

// A tokenizer.json with all 256 bytes (the id is the byte), "ab" (256), "abc" (257), " a" (258) and
// these added members.
inline std::string small_json(const std::string& members, const std::string& model_members = "") {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    append_json_string(detail::alphabet_of_bytes(std::string(1, static_cast<char>(byte))), vocab);
    vocab += ":" + std::to_string(byte) + ",";
  }
  vocab += R"("ab":256,"abc":257,"\u0120a":258)";
  return R"({"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" + vocab +
         R"(},"merges":["a b",["ab","c"],"\u0120 a"])" + model_members + "}" + members + "}";
}

inline Tokenizer small(const std::string& members, const std::string& config = "") {
  return Tokenizer::parse(small_json(members), config).value();
}

// How a tokenizer.json with these members is refused, or "accepted".
inline std::string refusal(const std::string& members, const std::string& model_members = "") {
  const auto tokenizer = Tokenizer::parse(small_json(members, model_members));
  if (tokenizer.ok()) return "accepted";
  return std::string(to_string(tokenizer.error().kind)) + ": " + tokenizer.error().message;
}

// The words that `pre_tokenizer` cuts "..." into, seen through an unmerged vocabulary.
inline std::string split(const std::string& pre_tokenizer, std::string_view text) {
  const Tokenizer tokenizer = small(R"(,"pre_tokenizer":)" + pre_tokenizer);
  std::string shown;
  const auto ids = *tokenizer.encode(text);
  for (const TokenId id : ids) {
    shown.append(tokenizer.token_bytes(id)) += '/';
  }
  return shown;
}

inline std::string
split_step(const std::string& pattern, const std::string& behavior, bool invert = false) {
  return R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)" + pattern +
         R"(,"behavior":")" + behavior + R"(","invert":)" + (invert ? "true" : "false") +
         R"(},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
}

}  // namespace pleiad::text
