#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer.h"

// Whatever loads must encode without harm, and give ids that it can decode.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(bytes), size);
  const auto tokenizer = pleiad::text::Tokenizer::parse(json);
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text : {"a b ab", "<x>e\xCC\x81 12\n", ""}) {
    const auto ids =
        tokenizer->encode(text, {.add_special_tokens = true, .untrusted = {{0, text.size()}}});
    if (ids.ok() && !tokenizer->decode(*ids).ok()) std::abort();
  }
  return 0;
}
