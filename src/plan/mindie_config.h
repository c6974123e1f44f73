#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace pleiad::plan {

// One flag with its values, named without leading dashes: {"ep-size", {"8"}}. The model's folder is
// the flag "model".
struct FlagSetting {
  std::string flag;
  std::vector<std::string> values;

  friend bool operator==(const FlagSetting&, const FlagSetting&) = default;
};

// What became of one key of a MindIE configuration.
enum class MindieOutcome {
  Mapped,   // to a flag
  Ignored,  // has no effect here; `reason` says why
  Refused,  // breaks a rule; `reason` names rule, value and nearest valid value
  Unknown,  // no key of MindIE's that is read here; nothing was done with it
};

std::string_view to_string(MindieOutcome outcome);

struct MindieEntry {
  std::string path;  // ModelConfig[0].models.deepseekv2.ep_level
  Json value;
  MindieOutcome outcome = MindieOutcome::Unknown;
  FlagSetting mapped;  // when Mapped
  std::string reason;
};

// A ModelDeployConfig read whole: every key of it has exactly one entry, in the order written.
struct MindieConfig {
  std::vector<MindieEntry> entries;

  // The flags of the mapped entries, in order.
  [[nodiscard]] std::vector<FlagSetting> flags() const;
  // Fails with InvalidInput, joining the reasons of all refused entries.
  [[nodiscard]] Result<void> check() const;
  // A line for each entry: "path = value -> --flag value", or what else became of it.
  [[nodiscard]] std::string to_text() const;
};

// Whether `value` is an object with a ModelDeployConfig, such an object inside a BackendConfig, or
// the inner object of one (it has a ModelConfig).
bool is_mindie_config(const Json& value);

// Reads one. Fails with InvalidInput only when `value` is none (see is_mindie_config); whatever is
// wrong inside is a refused entry.
Result<MindieConfig> read_mindie_config(const Json& value);

}  // namespace pleiad::plan
