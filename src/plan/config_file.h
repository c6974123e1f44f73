#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "plan/mindie_config.h"

namespace pleiad::plan {

struct ConfigFileLimits {
  std::size_t bytes_max = 1U << 20U;
  std::size_t depth_max = 16;
  std::size_t flags_max = 256;
};

// The settings of a file, as a command line would give them.
struct ConfigFile {
  std::vector<FlagSetting> flags;      // in the order written
  std::optional<MindieConfig> mindie;  // when the file is MindIE's; already free of refusals
};

// Reads the text of a --config file: JSON when it begins with a brace, YAML otherwise. Its keys are
// the names of flags, with dashes or underscores. A scalar is one value (true and false stand as
// words), a list of scalars several; objects and lists of lists become JSON text, as flags take
// them. A MindIE ModelDeployConfig is recognised and mapped.
//
// Fails with InvalidInput on malformed text, keys that are no names, a key given twice (in either
// spelling), null or empty values, refused MindIE keys and broken limits. Whether a flag of that
// name exists is for the caller to say.
Result<ConfigFile> read_config_file(std::string_view text, const ConfigFileLimits& limits = {});

}  // namespace pleiad::plan
