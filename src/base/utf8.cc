#include "base/utf8.h"

#include <algorithm>

#include "base/check.h"

namespace pleiad {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// What a lead byte announces: length, and the range its second byte must lie in (Table 3-7).
struct Lead {
  std::size_t bytes = 0;
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xBF;
};

Lead classify(unsigned char byte) {
  if (byte < 0x80) return {.bytes = 1};
  if (byte < 0xC2) return {};
  if (byte < 0xE0) return {.bytes = 2};
  if (byte == 0xE0) return {.bytes = 3, .second_min = 0xA0};
  if (byte == 0xED) return {.bytes = 3, .second_max = 0x9F};
  if (byte < 0xF0) return {.bytes = 3};
  if (byte == 0xF0) return {.bytes = 4, .second_min = 0x90};
  if (byte < 0xF4) return {.bytes = 4};
  if (byte == 0xF4) return {.bytes = 4, .second_max = 0x8F};
  return {};
}

unsigned char byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

// How many bytes at the start of `text` agree with its lead byte (at least 1).
std::size_t well_formed_prefix(std::string_view text, const Lead& lead) {
  std::size_t used = 1;
  while (used < lead.bytes && used < text.size()) {
    const unsigned char byte = byte_at(text, used);
    const unsigned char min = used == 1 ? lead.second_min : 0x80;
    const unsigned char max = used == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) break;
    ++used;
  }
  return used;
}

}  // namespace

std::optional<CodePoint> decode_utf8(std::string_view text) {
  PLEIAD_CHECK(!text.empty());
  const unsigned char first = byte_at(text, 0);
  const Lead lead = classify(first);
  if (lead.bytes == 0 || well_formed_prefix(text, lead) < lead.bytes) return std::nullopt;
  if (lead.bytes == 1) return CodePoint{first, 1};
  char32_t value = first & (0x7FU >> lead.bytes);
  for (std::size_t i = 1; i < lead.bytes; ++i) {
    value = (value << 6U) | (byte_at(text, i) & 0x3FU);
  }
  return CodePoint{value, lead.bytes};
}

void append_utf8(char32_t value, std::string& out) {
  PLEIAD_CHECK(value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF));
  const auto push = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    push(value);
  } else if (value < 0x800) {
    push(0xC0U | (value >> 6U));
    push(0x80U | (value & 0x3FU));
  } else if (value < 0x10000) {
    push(0xE0U | (value >> 12U));
    push(0x80U | ((value >> 6U) & 0x3FU));
    push(0x80U | (value & 0x3FU));
  } else {
    push(0xF0U | (value >> 18U));
    push(0x80U | ((value >> 12U) & 0x3FU));
    push(0x80U | ((value >> 6U) & 0x3FU));
    push(0x80U | (value & 0x3FU));
  }
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    // Nearly all of most texts, and each is a sequence of its own.
    const auto wide = std::ranges::find_if(text, [](char c) { return (c & '\x80') != 0; });
    text.remove_prefix(static_cast<std::size_t>(wide - text.begin()));
    if (text.empty()) break;
    const auto point = decode_utf8(text);
    if (!point) return false;
    text.remove_prefix(point->bytes);
  }
  return true;
}

std::size_t incomplete_utf8_tail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const unsigned char byte = byte_at(tail, 0);
    if ((byte & 0xC0U) == 0x80) continue;
    const Lead lead = classify(byte);
    return lead.bytes > back && well_formed_prefix(tail, lead) == back ? back : 0;
  }
  return 0;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Lead lead = classify(byte_at(text, 0));
    const std::size_t used = lead.bytes == 0 ? 1 : well_formed_prefix(text, lead);
    out.append(lead.bytes == used ? text.substr(0, used) : kReplacement);
    text.remove_prefix(used);
  }
  return out;
}

}  // namespace pleiad
