#include "text/detail/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <queue>

#include "text/detail/byte_alphabet.h"

namespace pleiad::text::detail {
namespace {

// Ids index arrays, so a single absurd one must not cost gigabytes.
constexpr std::int64_t kIdLimit = 1 << 24;
// Up to here scanning all pairs beats a heap.
constexpr std::size_t kShortWordBytes = 48;
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();

constexpr std::uint8_t kWholeYes = 1;
constexpr std::uint8_t kWholeNo = 2;

std::uint64_t pair_of(TokenId left, TokenId right) {
  return (std::uint64_t{left} << 32U) | right;
}

std::size_t mix(std::uint64_t key) {
  key *= 0x9E3779B97F4A7C15U;
  return key ^ (key >> 29U);
}

std::size_t table_size(std::size_t entries) {
  return std::bit_ceil(entries * 2 + 2);
}

bool is_set(const Json& model, std::string_view key) {
  const Json* value = model.find(key);
  if (value == nullptr || value->is_null()) return false;
  const std::string* text = value->as_string();
  if (text != nullptr && text->empty()) return false;
  if (value->as_bool() == false) return false;
  return value->as_double() != 0.0;
}

Result<void> check_options(const Json& model) {
  const Json* type = model.find("type");
  if (type != nullptr && !type->is_null() && *type != Json("BPE")) {
    return unsupported("tokenizer model {}: only BPE is supported", type->dump());
  }
  for (const char* option :
       {"dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback"}) {
    if (is_set(model, option)) return unsupported("tokenizer model option {}", option);
  }
  return {};
}

// The two halves of a merge in either JSON form: ["a", "b"] or "a b".
std::optional<std::pair<std::string_view, std::string_view>> halves_of(const Json& merge) {
  if (const JsonArray* both = merge.as_array()) {
    if (both->size() != 2) return std::nullopt;
    const std::string* left = (*both)[0].as_string();
    const std::string* right = (*both)[1].as_string();
    if (left == nullptr || right == nullptr) return std::nullopt;
    return std::pair<std::string_view, std::string_view>(*left, *right);
  }
  const std::string* text = merge.as_string();
  if (text == nullptr) return std::nullopt;
  const std::size_t space = text->find(' ');
  if (space == std::string::npos || text->find(' ', space + 1) != std::string::npos) {
    return std::nullopt;
  }
  const std::string_view view = *text;
  return std::pair(view.substr(0, space), view.substr(space + 1));
}

}  // namespace

Result<Bpe> Bpe::build(const Json& model) {
  if (!model.is_object()) return corrupt("tokenizer model is {}, not an object", model.type_name());
  PLEIAD_TRY(check_options(model));
  const Json* vocabulary = model.find("vocab");
  const Json* merges = model.find("merges");
  if (vocabulary == nullptr || vocabulary->as_object() == nullptr) {
    return corrupt("tokenizer model has no vocab object");
  }
  if (merges == nullptr || merges->as_array() == nullptr) {
    return corrupt("tokenizer model has no merges array");
  }
  Bpe bpe;
  bpe.ignore_merges_ = is_set(model, "ignore_merges");
  PLEIAD_TRY(bpe.add_vocabulary(*vocabulary->as_object()));
  PLEIAD_TRY(bpe.add_merges(*vocabulary->as_object(), *merges->as_array()));
  return bpe;
}

Result<void> Bpe::add_vocabulary(const JsonObject& vocabulary) {
  std::int64_t id_max = -1;
  for (const auto& [written, value] : vocabulary) {
    const auto id = value.as_int();
    if (!id || *id < 0 || *id >= kIdLimit) {
      return corrupt(
          "token \"{}\" has id {}, outside 0 to {}", written, value.dump(), kIdLimit - 1
      );
    }
    id_max = std::max(id_max, *id);
  }
  tokens_.resize(static_cast<std::size_t>(id_max + 1));
  std::vector<bool> reachable(tokens_.size(), false);
  for (const auto& [written, value] : vocabulary) {
    const auto id = static_cast<TokenId>(*value.as_int());
    auto bytes = bytes_of_alphabet(written);
    reachable[id] = bytes.has_value();
    if (bytes) {
      tokens_[id] = *std::move(bytes);
    } else {
      outside_alphabet_.push_back(id);
      tokens_[id] = written;
    }
  }
  index_tokens(reachable);
  return {};
}

void Bpe::index_tokens(const std::vector<bool>& reachable) {
  byte_tokens_.fill(kNoToken);
  whole_ = std::make_unique<std::atomic<std::uint8_t>[]>(tokens_.size());
  index_ = TextIndex(tokens_.size());
  const auto bytes_of = [this](TokenId id) { return std::string_view(tokens_[id]); };
  for (TokenId id = 0; id < tokens_.size(); ++id) {
    const std::string& bytes = tokens_[id];
    if (!reachable[id] || bytes.empty()) continue;
    if (bytes.size() == 1) byte_tokens_[static_cast<unsigned char>(bytes[0])] = id;
    index_.add(id, bytes_of);
  }
}

std::optional<TokenId> Bpe::find(std::string_view bytes) const {
  return index_.find(bytes, [this](TokenId id) { return std::string_view(tokens_[id]); });
}

std::optional<TokenId> Bpe::find_outside_alphabet(std::string_view text) const {
  for (const TokenId id : outside_alphabet_) {
    if (tokens_[id] == text) return id;
  }
  return std::nullopt;
}

Result<void> Bpe::add_merges(const JsonObject& vocabulary, const JsonArray& merges) {
  // Merges are resolved in the vocabulary's own spelling: two spellings may stand for one text.
  const auto written_of = [&vocabulary](std::uint32_t entry) {
    return std::string_view(vocabulary[entry].first);
  };
  TextIndex entries(vocabulary.size());
  for (std::uint32_t entry = 0; entry < vocabulary.size(); ++entry) {
    entries.add(entry, written_of);
  }
  const auto id_of = [&](std::string_view written) -> std::optional<TokenId> {
    const auto entry = entries.find(written, written_of);
    if (!entry) return std::nullopt;
    return static_cast<TokenId>(*vocabulary[*entry].second.as_int());
  };
  merges_.resize(table_size(merges.size()));
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto halves = halves_of(merges[rank]);
    if (!halves) return corrupt("merge {} is not a pair of tokens", rank);
    joined.assign(halves->first).append(halves->second);
    const auto left = id_of(halves->first);
    const auto right = id_of(halves->second);
    const auto result = id_of(joined);
    if (!left || !right || !result) {
      return corrupt(
          "merge {} (\"{}\", \"{}\") names a token outside the vocabulary",
          rank,
          halves->first,
          halves->second
      );
    }
    insert_merge({pair_of(*left, *right), static_cast<std::uint32_t>(rank), *result});
  }
  return {};
}

void Bpe::insert_merge(const Merge& merge) {
  std::size_t at = mix(merge.pair) & (merges_.size() - 1);
  while (merges_[at].pair != kNoPair && merges_[at].pair != merge.pair) {
    at = (at + 1) & (merges_.size() - 1);
  }
  merges_[at] = merge;
}

const Bpe::Merge* Bpe::find_merge(TokenId left, TokenId right) const {
  const std::uint64_t pair = pair_of(left, right);
  for (std::size_t at = mix(pair) & (merges_.size() - 1); merges_[at].pair != kNoPair;
       at = (at + 1) & (merges_.size() - 1)) {
    if (merges_[at].pair == pair) return &merges_[at];
  }
  return nullptr;
}

Result<void> Bpe::encode(std::string_view word, std::vector<TokenId>& out) const {
  if (word.empty()) return {};
  const auto whole = find(word);
  if (whole) {
    const bool known = whole_[*whole].load(std::memory_order_relaxed) == kWholeYes;
    if (ignore_merges_ || known) {
      out.push_back(*whole);
      return {};
    }
  }
  for (const char byte : word) {
    if (byte_tokens_[static_cast<unsigned char>(byte)] == kNoToken) {
      return invalid_input(
          "byte 0x{:02X} has no token in this vocabulary", static_cast<unsigned char>(byte)
      );
    }
  }
  const std::size_t before = out.size();
  if (word.size() <= kShortWordBytes) {
    merge_short(word, out);
  } else {
    merge_long(word, out);
  }
  if (whole) {
    const bool is_whole = out.size() == before + 1 && out.back() == *whole;
    whole_[*whole].store(is_whole ? kWholeYes : kWholeNo, std::memory_order_relaxed);
  }
  return {};
}

void Bpe::merge_short(std::string_view word, std::vector<TokenId>& out) const {
  std::array<TokenId, kShortWordBytes> ids;          // NOLINT: filled below up to count
  std::array<const Merge*, kShortWordBytes> merges;  // NOLINT: merges[i] joins i and i + 1
  std::size_t count = word.size();
  for (std::size_t i = 0; i < count; ++i) {
    ids[i] = byte_tokens_[static_cast<unsigned char>(word[i])];
  }
  for (std::size_t i = 0; i + 1 < count; ++i) {
    merges[i] = find_merge(ids[i], ids[i + 1]);
  }
  while (count > 1) {
    std::size_t best = 0;
    std::uint32_t best_rank = kNoRank;
    for (std::size_t i = 0; i + 1 < count; ++i) {
      if (merges[i] != nullptr && merges[i]->rank < best_rank) {
        best = i;
        best_rank = merges[i]->rank;
      }
    }
    if (best_rank == kNoRank) break;
    ids[best] = merges[best]->result;
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      ids[i] = ids[i + 1];
      merges[i] = merges[i + 1];
    }
    --count;
    if (best > 0) merges[best - 1] = find_merge(ids[best - 1], ids[best]);
    if (best + 1 < count) merges[best] = find_merge(ids[best], ids[best + 1]);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void Bpe::merge_long(std::string_view word, std::vector<TokenId>& out) const {
  constexpr std::uint32_t kEnd = kNoRank;
  struct Symbol {
    TokenId id = kNoToken;  // kNoToken once swallowed by the symbol to its left
    std::uint32_t previous = kEnd;
    std::uint32_t next = kEnd;
  };
  struct Candidate {
    std::uint64_t order = 0;  // rank, then place
    TokenId result = 0;

    bool operator>(const Candidate& other) const { return order > other.order; }
  };
  std::vector<Symbol> symbols(word.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto propose = [&](std::uint32_t at) {
    const std::uint32_t next = symbols[at].next;
    if (next == kEnd) return;
    const Merge* merge = find_merge(symbols[at].id, symbols[next].id);
    if (merge == nullptr) return;
    candidates.push({(std::uint64_t{merge->rank} << 32U) | at, merge->result});
  };
  const auto count = static_cast<std::uint32_t>(word.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols[i].id = byte_tokens_[static_cast<unsigned char>(word[i])];
    symbols[i].previous = i == 0 ? kEnd : i - 1;
    symbols[i].next = i + 1 == count ? kEnd : i + 1;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    propose(i);
  }
  while (!candidates.empty()) {
    const Candidate top = candidates.top();
    candidates.pop();
    const auto at = static_cast<std::uint32_t>(top.order);
    Symbol& left = symbols[at];
    if (left.id == kNoToken || left.next == kEnd) continue;
    Symbol& right = symbols[left.next];
    const Merge* merge = find_merge(left.id, right.id);
    // The neighbours may have changed since this was proposed.
    if (merge == nullptr || merge->rank != top.order >> 32U) continue;
    left.id = merge->result;
    right.id = kNoToken;
    left.next = right.next;
    if (left.next != kEnd) symbols[left.next].previous = at;
    if (left.previous != kEnd) propose(left.previous);
    propose(at);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.id != kNoToken) out.push_back(symbol.id);
  }
}

}  // namespace pleiad::text::detail
