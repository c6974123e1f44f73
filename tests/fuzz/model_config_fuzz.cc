#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.h"
#include "model/model.h"

// Any config.json is either refused or describes sizes that can be worked with.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto config = pleiad::parse_json(text);
  if (!config.ok()) return 0;
  const auto architecture = pleiad::model::find_architecture(*config);
  if (!architecture.ok()) return 0;
  for (const auto compute : {pleiad::model::Compute::Float32, pleiad::model::Compute::BFloat16}) {
    const auto shape = (*architecture)->shape(*config, compute);
    if (!shape.ok()) continue;
    const bool sane = shape->vocabulary > 0 && shape->positions_max > 0 &&
                      shape->cache.layers > 0 && shape->cache.width > 0;
    if (!sane) std::abort();
  }
  return 0;
}
