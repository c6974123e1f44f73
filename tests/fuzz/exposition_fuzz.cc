#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "base/exposition.h"

// Whatever is read is what writing gives back.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto read = pleiad::parse_exposition(text, {.name = "engine", .values = {"2", "3"}});
  if (read.ok() && pleiad::to_text(*read) != text) std::abort();
  return 0;
}
