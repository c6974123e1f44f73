#include "text/detail/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace pleiad::text::detail {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr std::size_t kStandIns = 68;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The bytes that do not stand for themselves, in the order of their stand-ins.
constexpr std::array<std::uint8_t, kStandIns> make_stand_ins() {
  std::array<std::uint8_t, kStandIns> bytes{};
  std::size_t next = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (!stands_for_itself(byte)) bytes[next++] = static_cast<std::uint8_t>(byte);
  }
  return bytes;
}

constexpr std::array<char32_t, 256> make_letters() {
  std::array<char32_t, 256> letters{};
  char32_t next = kFirstStandIn;
  for (unsigned byte = 0; byte < 256; ++byte) {
    letters[byte] = stands_for_itself(byte) ? byte : next++;
  }
  return letters;
}

constexpr auto kByteOfStandIn = make_stand_ins();
constexpr auto kLetters = make_letters();

}  // namespace

std::optional<std::string> bytes_of_alphabet(std::string_view written) {
  std::string bytes;
  bytes.reserve(written.size());
  while (!written.empty()) {
    const auto point = decode_utf8(written);
    if (!point) return std::nullopt;
    const char32_t letter = point->value;
    if (letter < 256 && stands_for_itself(letter)) {
      bytes.push_back(static_cast<char>(letter));
    } else if (letter >= kFirstStandIn && letter - kFirstStandIn < kStandIns) {
      bytes.push_back(static_cast<char>(kByteOfStandIn[letter - kFirstStandIn]));
    } else {
      return std::nullopt;
    }
    written.remove_prefix(point->bytes);
  }
  return bytes;
}

std::string alphabet_of_bytes(std::string_view bytes) {
  std::string written;
  for (const char byte : bytes) {
    append_utf8(kLetters[static_cast<unsigned char>(byte)], written);
  }
  return written;
}

}  // namespace pleiad::text::detail
