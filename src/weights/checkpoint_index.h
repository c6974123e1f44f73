#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pleiad::weights {

// What model.safetensors.index.json says: which tensor lies in which shard.
struct CheckpointIndex {
  std::vector<std::pair<std::string, std::string>> shard_of;  // tensor, file name; as written
  std::vector<std::string> shards;                            // file names, ascending, each once
};

// Reads the text of an index. Fails with InvalidInput on malformed JSON, a weight_map that is no
// map of strings, and file names that are not plain names ending in .safetensors. Pure.
Result<CheckpointIndex> parse_checkpoint_index(std::string_view text);

}  // namespace pleiad::weights
