#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.h"

// Whatever parses must survive a round trip through its own text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto value = pleiad::parse_json(text);
  if (!value.ok()) return 0;
  const auto again = pleiad::parse_json(value->dump());
  if (!again.ok() || again->dump() != value->dump()) std::abort();
  return 0;
}
