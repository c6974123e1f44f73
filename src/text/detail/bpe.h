#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"
#include "text/detail/text_index.h"

namespace pleiad::text::detail {

// The byte-pair model of a byte-level tokenizer (Sennrich et al. 2016): a word starts as its bytes,
// and the adjacent pair with the lowest rank is merged, leftmost first, until no pair has a rank.
// Immutable once built, apart from memoised facts about the vocabulary; any thread may encode.
class Bpe {
 public:
  // From the "model" member of tokenizer.json. Unsupported names the option this build cannot do;
  // Corrupt names the entry that contradicts the rest.
  static Result<Bpe> build(const Json& model);

  // Appends the tokens of one word. Takes time n log n in its bytes. Fails with InvalidInput when a
  // byte has no token of its own.
  Result<void> encode(std::string_view word, std::vector<TokenId>& out) const;

  // The bytes of every token by id; unused ids are empty. [max id + 1]
  [[nodiscard]] const std::vector<std::string>& tokens() const { return tokens_; }
  // The token whose bytes are exactly `bytes` and which words can reach.
  [[nodiscard]] std::optional<TokenId> find(std::string_view bytes) const;
  // The token written `text` in the vocabulary although words cannot reach it: its spelling leaves
  // the byte alphabet.
  [[nodiscard]] std::optional<TokenId> find_outside_alphabet(std::string_view text) const;

 private:
  struct Merge {
    std::uint64_t pair = kNoPair;  // left id in the high half
    std::uint32_t rank = 0;
    TokenId result = 0;
  };

  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};
  static constexpr TokenId kNoToken = ~TokenId{0};

  Bpe() = default;
  Result<void> add_vocabulary(const JsonObject& vocabulary);
  Result<void> add_merges(const JsonObject& vocabulary, const JsonArray& merges);
  void index_tokens(const std::vector<bool>& reachable);
  void insert_merge(const Merge& merge);
  [[nodiscard]] const Merge* find_merge(TokenId left, TokenId right) const;
  void merge_short(std::string_view word, std::vector<TokenId>& out) const;
  void merge_long(std::string_view word, std::vector<TokenId>& out) const;

  std::vector<std::string> tokens_;
  std::vector<TokenId> outside_alphabet_;
  TextIndex index_;            // reachable tokens by their bytes
  std::vector<Merge> merges_;  // open addressing by pair; a power of two
  std::array<TokenId, 256> byte_tokens_{};
  bool ignore_merges_ = false;
  // Per token: 0 not known, 1 its bytes as a word give just this token, 2 they do not. Threads may
  // race to write the same answer.
  std::unique_ptr<std::atomic<std::uint8_t>[]> whole_;
};

}  // namespace pleiad::text::detail
