#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace pleiad::apps {

// Replaces `--config FILE` (or --config=FILE) among a verb's arguments by the flags of the file
// (YAML, JSON, or MindIE's ModelDeployConfig; see plan/config_file.h), put right behind the verb,
// before all others: what stands on the command line wins where the last value of a flag counts.
// `notes` gets a line for every key of a MindIE file that says what became of it. Fails with what
// is wrong with the file, naming it.
Result<std::vector<std::string>>
with_config_file(std::vector<std::string> arguments, std::string& notes);

}  // namespace pleiad::apps
