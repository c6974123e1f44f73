#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/yaml.h"

// Whatever is read is a JSON value: it must survive a round trip through JSON's text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto value = pleiad::parse_yaml(text);
  if (!value.ok()) return 0;
  const auto again = pleiad::parse_json(value->dump(), {.reject_duplicate_keys = false});
  if (!again.ok() || again->dump() != value->dump()) std::abort();
  return 0;
}
