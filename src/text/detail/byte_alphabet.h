#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pleiad::text::detail {

// Byte-level vocabularies write each of the 256 bytes as one printable character (GPT-2's
// alphabet): printable Latin-1 stands for itself, the other 68 bytes follow from U+0100 upwards.
// The bytes that `written` stands for, or nothing when some character is not in the alphabet.
std::optional<std::string> bytes_of_alphabet(std::string_view written);

// The alphabet's spelling of `bytes`.
std::string alphabet_of_bytes(std::string_view bytes);

}  // namespace pleiad::text::detail
