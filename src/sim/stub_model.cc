#include "sim/stub_model.h"

#include "base/hash.h"

namespace pleiad::sim {

TokenId stub_token(std::span<const TokenId> tokens, std::int64_t prompt_tokens) {
  const std::uint64_t hash =
      hash64(std::as_bytes(tokens), static_cast<std::uint64_t>(prompt_tokens));
  if (hash >> 58U == 0) return kStubEnd;
  return static_cast<TokenId>(1 + hash % (kStubVocabulary - 1));
}

}  // namespace pleiad::sim
