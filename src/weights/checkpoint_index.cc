#include "weights/checkpoint_index.h"

#include <algorithm>

#include "base/json.h"

namespace pleiad::weights {
namespace {

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::size_t kNameBytesMax = 255;

// A name that stays in its folder: no separators, nothing hidden, nothing a shell or log trips
// over.
bool is_plain_name(std::string_view name) {
  const bool sized = name.size() > kSuffix.size() && name.size() <= kNameBytesMax;
  if (!sized || name.front() == '.' || !name.ends_with(kSuffix)) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return c > ' ' && c != '/' && c != '\\' && c != '\x7F';
  });
}

}  // namespace

Result<CheckpointIndex> parse_checkpoint_index(std::string_view text) {
  PLEIAD_TRY(json, parse_json(text));
  const Json* map = json.find("weight_map");
  const JsonObject* members = map == nullptr ? nullptr : map->as_object();
  if (members == nullptr) return invalid_input("weight_map is missing or no object");
  if (members->empty()) return invalid_input("weight_map is empty");

  CheckpointIndex index;
  index.shard_of.reserve(members->size());
  for (const auto& [tensor, value] : *members) {
    const std::string* shard = value.as_string();
    if (shard == nullptr || !is_plain_name(*shard)) {
      return invalid_input(
          "weight_map: {} is no name of a .safetensors file in this folder", value.dump()
      );
    }
    index.shard_of.emplace_back(tensor, *shard);
    index.shards.push_back(*shard);
  }
  std::sort(index.shards.begin(), index.shards.end());
  index.shards.erase(std::unique(index.shards.begin(), index.shards.end()), index.shards.end());
  return index;
}

}  // namespace pleiad::weights
