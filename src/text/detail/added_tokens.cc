#include "text/detail/added_tokens.h"

#include <algorithm>

#include <utf8proc.h>

#include "base/utf8.h"

namespace pleiad::text::detail {
namespace {

constexpr std::size_t kContentBytesMax = 4096;
constexpr std::int64_t kIdLimit = 1 << 24;

Result<AddedToken> parse_added_token(const Json& config) {
  const Json* id = config.find("id");
  const Json* content = config.find("content");
  const auto number = id == nullptr ? std::nullopt : id->as_int();
  if (!number || *number < 0 || *number >= kIdLimit) {
    return corrupt("added token {} has no id from 0 to {}", config.dump(), kIdLimit - 1);
  }
  if (content == nullptr || content->as_string() == nullptr) {
    return corrupt("added token {} has no content", *number);
  }
  const auto flag = [&config](std::string_view key) {
    const Json* value = config.find(key);
    return value != nullptr && value->as_bool().value_or(false);
  };
  AddedToken token{
      .id = static_cast<TokenId>(*number),
      .content = *content->as_string(),
      .special = flag("special"),
      .single_word = flag("single_word"),
      .lstrip = flag("lstrip"),
      .rstrip = flag("rstrip"),
      .normalized = flag("normalized"),
  };
  if (token.content.size() > kContentBytesMax) {
    return unsupported("added token {} of {} bytes", token.id, token.content.size());
  }
  return token;
}

// The character that ends at byte `end`.
std::optional<char32_t> character_before(std::string_view text, std::size_t end) {
  if (end == 0) return std::nullopt;
  std::size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80) {
    --begin;
  }
  const auto point = decode_utf8(text.substr(begin, end - begin));
  return point ? std::optional(point->value) : std::nullopt;
}

std::optional<char32_t> character_at(std::string_view text, std::size_t begin) {
  if (begin >= text.size()) return std::nullopt;
  const auto point = decode_utf8(text.substr(begin));
  return point ? std::optional(point->value) : std::nullopt;
}

bool is_word(char32_t point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

bool is_blank(char32_t point) {
  if ((point >= 9 && point <= 13) || point == 32 || point == 0x85) return true;
  if (point < 128) return false;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool stands_alone(std::string_view text, TextRange range) {
  const auto before = character_before(text, range.begin);
  const auto after = character_at(text, range.end);
  return !(before && is_word(*before)) && !(after && is_word(*after));
}

// `range` grown over blanks on the sides that `token` strips, to the left not before `floor`.
TextRange
strip(const AddedToken& token, std::string_view text, TextRange range, std::size_t floor) {
  if (token.lstrip) {
    while (range.begin > floor) {
      const auto before = character_before(text, range.begin);
      if (!before || !is_blank(*before)) break;
      std::string encoded;
      append_utf8(*before, encoded);
      range.begin -= encoded.size();
    }
  }
  if (token.rstrip) {
    while (range.end < text.size()) {
      const auto after = decode_utf8(text.substr(range.end));
      if (!after || !is_blank(after->value)) break;
      range.end += after->bytes;
    }
  }
  return range;
}

}  // namespace

Result<std::vector<AddedToken>> parse_added_tokens(const Json* config) {
  std::vector<AddedToken> tokens;
  if (config == nullptr || config->is_null()) return tokens;
  const JsonArray* list = config->as_array();
  if (list == nullptr) return corrupt("added_tokens is {}, not an array", config->type_name());
  tokens.reserve(list->size());
  for (const Json& entry : *list) {
    PLEIAD_TRY(token, parse_added_token(entry));
    if (!token.content.empty()) tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokenSearch::AddedTokenSearch(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.content < b.content;
  });
  for (const AddedToken& token : tokens_) {
    starts_[static_cast<unsigned char>(token.content[0])] = true;
  }
}

const AddedToken* AddedTokenSearch::match_at(
    std::string_view text,
    std::size_t at,
    const std::vector<TextRange>& untrusted
) const {
  const AddedToken* best = nullptr;
  auto begin = tokens_.begin();
  auto end = tokens_.end();
  // Each byte narrows the sorted tokens to those that share one more byte with the text.
  for (std::size_t length = 0; begin != end; ++length) {
    if (begin->content.size() == length) {
      const bool trusted = !begin->special || !touches(untrusted, {at, at + length});
      if (trusted) best = &*begin;
      while (begin != end && begin->content.size() == length) {
        ++begin;
      }
    }
    if (at + length >= text.size()) break;
    const auto byte = static_cast<unsigned char>(text[at + length]);
    const auto byte_of = [length](const AddedToken& token) {
      return static_cast<unsigned char>(token.content[length]);
    };
    begin =
        std::partition_point(begin, end, [&](const AddedToken& t) { return byte_of(t) < byte; });
    end = std::partition_point(begin, end, [&](const AddedToken& t) { return byte_of(t) <= byte; });
  }
  return best;
}

std::vector<Segment>
AddedTokenSearch::split(std::string_view text, const std::vector<TextRange>& untrusted) const {
  std::vector<Segment> segments;
  std::size_t done = 0;
  std::size_t at = 0;
  while (!tokens_.empty() && at < text.size()) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const AddedToken* token = match_at(text, at, untrusted);
    if (token == nullptr) {
      ++at;
      continue;
    }
    TextRange range{at, at + token->content.size()};
    at = range.end;
    if (token->single_word && !stands_alone(text, range)) continue;
    range = strip(*token, text, range, done);
    if (done < range.begin) segments.push_back({std::nullopt, {done, range.begin}});
    segments.push_back({token->id, range});
    done = range.end;
    at = std::max(at, done);
  }
  if (done < text.size()) segments.push_back({std::nullopt, {done, text.size()}});
  return segments;
}

bool touches(const std::vector<TextRange>& ranges, TextRange range) {
  const auto first = std::partition_point(ranges.begin(), ranges.end(), [&](const TextRange& r) {
    return r.end <= range.begin;
  });
  return first != ranges.end() && first->begin < range.end;
}

std::vector<TextRange> clip(const std::vector<TextRange>& ranges, TextRange window) {
  std::vector<TextRange> out;
  auto it = std::partition_point(ranges.begin(), ranges.end(), [&](const TextRange& r) {
    return r.end <= window.begin;
  });
  for (; it != ranges.end() && it->begin < window.end; ++it) {
    const std::size_t begin = std::max(it->begin, window.begin) - window.begin;
    const std::size_t end = std::min(it->end, window.end) - window.begin;
    if (begin < end) out.push_back({begin, end});
  }
  return out;
}

}  // namespace pleiad::text::detail
