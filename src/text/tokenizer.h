#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "text/text_range.h"

namespace pleiad::text {

struct EncodeOptions {
  // Whether to add what the tokenizer puts around a text (BOS, EOS). A rendered chat template has
  // them already.
  bool add_special_tokens = false;
  // Bytes that came from a client, in any order. A special token of which any byte lies here is not
  // recognised: it stays text. Ordinary added tokens are matched anywhere.
  std::vector<TextRange> untrusted = {};
};

struct DecodeOptions {
  bool skip_special = false;
};

// A byte-level BPE tokenizer as Hugging Face's tokenizer.json describes it: the same ids for the
// same text. What this build cannot do exactly is refused by name when the file is read, never
// ignored; "truncation" and "padding" describe batches for training and play no part here.
// Immutable: any thread may use it, several at once.
class Tokenizer {
 public:
  // Reads tokenizer.json, and from tokenizer_config.json the keys bos_token, eos_token,
  // add_bos_token, add_eos_token. Blocks on the disk. Fails with NotFound, Corrupt or Unsupported,
  // naming the file.
  static Result<Tokenizer> load(
      const std::filesystem::path& tokenizer_json,
      const std::optional<std::filesystem::path>& tokenizer_config = std::nullopt
  );
  // The same from text; an empty `tokenizer_config` stands for no such file.
  static Result<Tokenizer>
  parse(std::string_view tokenizer_json, std::string_view tokenizer_config = {});

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Time n log n in the bytes of `text`. Fails with InvalidInput when `text` is not well-formed
  // UTF-8, holds 2^31 bytes or more, has an untrusted range beyond its end, or holds a byte that
  // the vocabulary cannot express.
  [[nodiscard]] Result<std::vector<TokenId>>
  encode(std::string_view text, const EncodeOptions& options = {}) const;

  // The text of `ids`; bytes that are no UTF-8 become U+FFFD. Ids without a token add nothing.
  // Fails with InvalidInput when an id is not below vocab_size().
  [[nodiscard]] Result<std::string>
  decode(std::span<const TokenId> ids, const DecodeOptions& options = {}) const;

  // The raw bytes of a token, the content of an added one. Empty for an id without a token. The
  // view lives as long as the tokenizer.
  [[nodiscard]] std::string_view token_bytes(TokenId id) const;
  // The token whose text is exactly `content`; added tokens first.
  [[nodiscard]] std::optional<TokenId> id_of(std::string_view content) const;
  [[nodiscard]] bool is_special(TokenId id) const;
  // The highest id plus one; ids below it may still have no token.
  [[nodiscard]] std::size_t vocab_size() const;
  [[nodiscard]] std::optional<TokenId> bos() const;
  [[nodiscard]] std::optional<TokenId> eos() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace pleiad::text
