#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "plan/mindie_config.h"

// Every entry that is mapped has a flag with values, every other one a reason.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto value = pleiad::parse_json(text);
  if (!value.ok()) return 0;
  const auto config = pleiad::plan::read_mindie_config(*value);
  if (config.ok() != pleiad::plan::is_mindie_config(*value)) std::abort();
  if (!config.ok()) return 0;
  for (const auto& entry : config->entries) {
    const bool mapped = entry.outcome == pleiad::plan::MindieOutcome::Mapped;
    const bool has_flag = !entry.mapped.flag.empty() && entry.mapped.values.size() == 1;
    if (mapped != has_flag || mapped != entry.reason.empty()) std::abort();
  }
  if (config->to_text().empty() != config->entries.empty()) std::abort();
  return 0;
}
