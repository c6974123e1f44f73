#include "text/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <unordered_map>

#include "base/json.h"
#include "base/utf8.h"
#include "text/detail/added_tokens.h"
#include "text/detail/bpe.h"
#include "text/detail/normalizer.h"
#include "text/detail/post_processor.h"
#include "text/detail/pre_tokenizer.h"

namespace pleiad::text {
namespace {

constexpr std::size_t kTextBytesMax = (std::size_t{1} << 31U) - 1;
constexpr std::size_t kFileBytesMax = 512U << 20U;

Result<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return not_found("cannot open {}", path.string());
  in.seekg(0, std::ios::end);
  const std::streamoff size = in.tellg();
  if (size < 0) return internal_error("cannot read {}", path.string());
  if (static_cast<std::size_t>(size) > kFileBytesMax) {
    return invalid_input(
        "{} has {} bytes; at most {} are read", path.string(), size, kFileBytesMax
    );
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  in.seekg(0);
  if (!in.read(bytes.data(), size)) return internal_error("cannot read {}", path.string());
  return bytes;
}

const Json& member_or_null(const Json& object, std::string_view key, const Json& null) {
  const Json* found = object.find(key);
  return found == nullptr ? null : *found;
}

Result<void> check_decoder(const Json& config, int depth) {
  const Json* type = config.find("type");
  const std::string* name = type == nullptr ? nullptr : type->as_string();
  if (name == nullptr) return unsupported("decoder {}: only ByteLevel is supported", config.dump());
  if (*name == "ByteLevel") return {};
  const Json* members = config.find("decoders");
  const JsonArray* list = members == nullptr ? nullptr : members->as_array();
  if (*name != "Sequence" || list == nullptr || list->empty() || depth > 8) {
    return unsupported("decoder {}: only ByteLevel is supported", *name);
  }
  for (const Json& member : *list) {
    PLEIAD_TRY(check_decoder(member, depth + 1));
  }
  return {};
}

// bos_token and its like: a string, or an object with the string in "content"; null is none.
Result<std::optional<std::string>> named_token(const Json& config, std::string_view key) {
  const Json* value = config.find(key);
  if (value != nullptr && value->is_object()) value = value->find("content");
  if (value == nullptr || value->is_null()) return std::optional<std::string>();
  const std::string* text = value->as_string();
  if (text == nullptr) return corrupt("tokenizer_config {} is no string", key);
  return std::optional(*text);
}

std::vector<TextRange> sorted(std::vector<TextRange> ranges) {
  std::erase_if(ranges, [](const TextRange& range) { return range.begin >= range.end; });
  std::sort(ranges.begin(), ranges.end(), [](const TextRange& a, const TextRange& b) {
    return a.begin < b.begin;
  });
  std::vector<TextRange> out;
  for (const TextRange& range : ranges) {
    if (!out.empty() && range.begin <= out.back().end) {
      out.back().end = std::max(out.back().end, range.end);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

}  // namespace

struct Tokenizer::Parts {
  detail::Bpe bpe;
  detail::PreTokenizer pre_tokenizer;
  detail::Normalizer normalizer;
  detail::AddedTokenSearch raw_tokens;         // sought before normalisation
  detail::AddedTokenSearch normalized_tokens;  // sought after it
  std::unordered_map<std::string, TokenId> added;
  std::vector<std::string> added_bytes;  // by id, empty where the model's own bytes stand
  std::vector<bool> special;             // by id
  std::size_t vocab_size = 0;
  detail::Frame frame;
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;

  static Result<std::unique_ptr<Parts>> build(const Json& config);
  void add_tokens(const std::vector<detail::AddedToken>& tokens);
  Result<void> configure(const Json& config);
  [[nodiscard]] std::optional<TokenId> find(const std::string& content) const;
  Result<void> encode_words(const std::vector<std::string_view>& words, std::vector<TokenId>& out)
      const;
  Result<void> encode_plain(
      std::string_view text,
      detail::RegexScratch& scratch,
      std::vector<TokenId>& out
  ) const;
  Result<void> encode_raw(
      std::string_view text,
      const std::vector<TextRange>& untrusted,
      detail::RegexScratch& scratch,
      std::vector<TokenId>& out
  ) const;
};

Result<std::unique_ptr<Tokenizer::Parts>> Tokenizer::Parts::build(const Json& config) {
  const Json null;
  if (!config.is_object()) return corrupt("tokenizer.json is {}", config.type_name());
  PLEIAD_TRY(bpe, detail::Bpe::build(member_or_null(config, "model", null)));
  PLEIAD_TRY(
      pre_tokenizer, detail::PreTokenizer::build(member_or_null(config, "pre_tokenizer", null))
  );
  PLEIAD_TRY(normalizer, detail::Normalizer::build(member_or_null(config, "normalizer", null)));
  PLEIAD_TRY(frame, detail::parse_post_processor(member_or_null(config, "post_processor", null)));
  PLEIAD_TRY(check_decoder(member_or_null(config, "decoder", null), 0));
  PLEIAD_TRY(tokens, detail::parse_added_tokens(config.find("added_tokens")));
  std::vector<detail::AddedToken> raw;
  std::vector<detail::AddedToken> normalized;
  for (const detail::AddedToken& token : tokens) {
    (token.normalized ? normalized : raw).push_back(token);
  }
  if (!normalizer.changes_nothing()) {
    for (detail::AddedToken& token : normalized) {
      token.content = detail::to_nfc(token.content);
    }
  }
  auto parts = std::make_unique<Parts>(Parts{
      .bpe = std::move(bpe),
      .pre_tokenizer = std::move(pre_tokenizer),
      .normalizer = normalizer,
      .raw_tokens = detail::AddedTokenSearch(std::move(raw)),
      .normalized_tokens = detail::AddedTokenSearch(std::move(normalized)),
      .added = {},
      .added_bytes = {},
      .special = {},
      .vocab_size = 0,
      .frame = std::move(frame),
      .bos = {},
      .eos = {},
  });
  parts->add_tokens(tokens);
  return parts;
}

void Tokenizer::Parts::add_tokens(const std::vector<detail::AddedToken>& tokens) {
  vocab_size = bpe.tokens().size();
  for (const detail::AddedToken& token : tokens) {
    vocab_size = std::max<std::size_t>(vocab_size, std::size_t{token.id} + 1);
  }
  special.resize(vocab_size, false);
  added_bytes.resize(vocab_size);
  for (const detail::AddedToken& token : tokens) {
    special[token.id] = token.special;
    added_bytes[token.id] = token.content;
    added[token.content] = token.id;
  }
}

std::optional<TokenId> Tokenizer::Parts::find(const std::string& content) const {
  const auto it = added.find(content);
  if (it != added.end()) return it->second;
  if (const auto id = bpe.find(content)) return id;
  return bpe.find_outside_alphabet(content);
}

Result<void> Tokenizer::Parts::configure(const Json& config) {
  if (!config.is_object()) return corrupt("tokenizer_config is {}", config.type_name());
  const auto resolve = [&](std::string_view key) -> Result<std::optional<TokenId>> {
    PLEIAD_TRY(content, named_token(config, key));
    if (!content) return std::optional<TokenId>();
    const auto id = find(*content);
    if (!id) return corrupt("tokenizer_config {} \"{}\" is not in the vocabulary", key, *content);
    return id;
  };
  PLEIAD_TRY(bos_id, resolve("bos_token"));
  PLEIAD_TRY(eos_id, resolve("eos_token"));
  bos = bos_id;
  eos = eos_id;
  const auto wants = [&config](std::string_view key) {
    const Json* value = config.find(key);
    return value == nullptr ? std::nullopt : value->as_bool();
  };
  // An explicit flag decides, whatever the post-processor says; absent, the post-processor does.
  if (const auto add = wants("add_bos_token"); add && bos) {
    std::erase(frame.before, *bos);
    if (*add) frame.before.insert(frame.before.begin(), *bos);
  }
  if (const auto add = wants("add_eos_token"); add && eos) {
    std::erase(frame.after, *eos);
    if (*add) frame.after.push_back(*eos);
  }
  return {};
}

Result<void> Tokenizer::Parts::encode_words(
    const std::vector<std::string_view>& words,
    std::vector<TokenId>& out
) const {
  for (const std::string_view word : words) {
    PLEIAD_TRY(bpe.encode(word, out));
  }
  return {};
}

Result<void> Tokenizer::Parts::encode_plain(
    std::string_view text,
    detail::RegexScratch& scratch,
    std::vector<TokenId>& out
) const {
  std::vector<std::string_view> words;
  PLEIAD_TRY(pre_tokenizer.split(text, scratch, words));
  if (!pre_tokenizer.adds_prefix_space()) return encode_words(words, out);
  std::string prefixed;
  std::vector<std::string_view> pieces;
  for (const std::string_view word : words) {
    prefixed.assign(word.front() == ' ' ? "" : " ").append(word);
    pieces.clear();
    PLEIAD_TRY(pre_tokenizer.split_prefixed(prefixed, scratch, pieces));
    PLEIAD_TRY(encode_words(pieces, out));
  }
  return {};
}

// Text between the tokens that are sought before normalisation.
Result<void> Tokenizer::Parts::encode_raw(
    std::string_view text,
    const std::vector<TextRange>& untrusted,
    detail::RegexScratch& scratch,
    std::vector<TokenId>& out
) const {
  detail::MarkedText marked;
  std::string_view normal = text;
  const std::vector<TextRange>* ranges = &untrusted;
  if (!normalizer.changes_nothing()) {
    marked = normalizer.apply(text, untrusted);
    normal = marked.text;
    ranges = &marked.untrusted;
  }
  if (normalized_tokens.empty()) return encode_plain(normal, scratch, out);
  for (const detail::Segment& segment : normalized_tokens.split(normal, *ranges)) {
    if (segment.id) {
      out.push_back(*segment.id);
      continue;
    }
    const std::size_t length = segment.range.end - segment.range.begin;
    PLEIAD_TRY(encode_plain(normal.substr(segment.range.begin, length), scratch, out));
  }
  return {};
}

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(
    const std::filesystem::path& tokenizer_json,
    const std::optional<std::filesystem::path>& tokenizer_config
) {
  PLEIAD_TRY(json, read_file(tokenizer_json));
  std::string config;
  if (tokenizer_config) {
    PLEIAD_TRY(text, read_file(*tokenizer_config));
    config = std::move(text);
  }
  auto tokenizer = parse(json, config);
  if (!tokenizer) return with_context(tokenizer.error(), tokenizer_json.string());
  return tokenizer;
}

Result<Tokenizer>
Tokenizer::parse(std::string_view tokenizer_json, std::string_view tokenizer_config) {
  const JsonLimits limits{.bytes_max = kFileBytesMax};
  PLEIAD_TRY(json, parse_json(tokenizer_json, limits));
  PLEIAD_TRY(parts, Parts::build(json));
  if (!tokenizer_config.empty()) {
    PLEIAD_TRY(config, parse_json(tokenizer_config, limits));
    PLEIAD_TRY(parts->configure(config));
  }
  const auto in_vocabulary = [&parts](TokenId id) { return id < parts->vocab_size; };
  const detail::Frame& frame = parts->frame;
  if (!std::all_of(frame.before.begin(), frame.before.end(), in_vocabulary) ||
      !std::all_of(frame.after.begin(), frame.after.end(), in_vocabulary)) {
    return corrupt("post_processor uses an id outside the vocabulary of {}", parts->vocab_size);
  }
  return Tokenizer(std::move(parts));
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, const EncodeOptions& options)
    const {
  if (text.size() > kTextBytesMax) {
    return invalid_input("text of {} bytes; at most {} are read", text.size(), kTextBytesMax);
  }
  if (!is_valid_utf8(text)) return invalid_input("text is not well-formed UTF-8");
  const std::vector<TextRange> untrusted = sorted(options.untrusted);
  if (!untrusted.empty() && untrusted.back().end > text.size()) {
    return invalid_input("untrusted range beyond the end of a text of {} bytes", text.size());
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 8);
  const detail::Frame& frame = parts_->frame;
  if (options.add_special_tokens) ids = frame.before;
  detail::RegexScratch scratch;
  for (const detail::Segment& segment : parts_->raw_tokens.split(text, untrusted)) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    const std::string_view piece =
        text.substr(segment.range.begin, segment.range.end - segment.range.begin);
    PLEIAD_TRY(parts_->encode_raw(piece, detail::clip(untrusted, segment.range), scratch, ids));
  }
  if (options.add_special_tokens) ids.insert(ids.end(), frame.after.begin(), frame.after.end());
  return ids;
}

Result<std::string> Tokenizer::decode(std::span<const TokenId> ids, const DecodeOptions& options)
    const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (id >= parts_->vocab_size) {
      return invalid_input("token id {}: the vocabulary ends at {}", id, parts_->vocab_size - 1);
    }
    if (!options.skip_special || !parts_->special[id]) bytes.append(token_bytes(id));
  }
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  if (id >= parts_->vocab_size) return {};
  if (!parts_->added_bytes[id].empty()) return parts_->added_bytes[id];
  const auto& tokens = parts_->bpe.tokens();
  return id < tokens.size() ? std::string_view(tokens[id]) : std::string_view{};
}

std::optional<TokenId> Tokenizer::id_of(std::string_view content) const {
  return parts_->find(std::string(content));
}

bool Tokenizer::is_special(TokenId id) const {
  return id < parts_->vocab_size && parts_->special[id];
}

std::size_t Tokenizer::vocab_size() const {
  return parts_->vocab_size;
}
std::optional<TokenId> Tokenizer::bos() const {
  return parts_->bos;
}
std::optional<TokenId> Tokenizer::eos() const {
  return parts_->eos;
}

}  // namespace pleiad::text
