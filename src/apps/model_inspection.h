#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/unread_tensors.h"

namespace pleiad::apps {

// What a model folder is, as far as its small files and tensor headers tell; weights are not read.
struct ModelInspection {
  // Tensors of one role and stored type.
  struct Share {
    std::string role;
    std::string dtype;
    std::int64_t tensors = 0;
    std::int64_t parameters = 0;
    std::int64_t bytes = 0;
  };

  std::string architecture;  // as in config.json
  std::int64_t layers = 0;
  std::int64_t moe_layers = 0;
  std::int64_t experts = 0;  // of each such layer
  std::int64_t topk = 0;
  std::int64_t vocabulary = 0;
  std::int64_t positions_max = 0;
  // Of the layers that answer: all, and those that one token meets (topk of the experts).
  std::int64_t parameters = 0;
  std::int64_t active_parameters = 0;
  std::vector<Share> shares;  // by role, then dtype
  model::UnreadTensors unread;
  // Packed weights and cache, by compute type; none when the weights cannot be loaded.
  std::optional<std::size_t> packed_bytes_float32;
  std::optional<std::size_t> packed_bytes_bfloat16;
  std::int64_t kv_bytes_float32 = 0;  // per token, all layers
  std::int64_t kv_bytes_bfloat16 = 0;
  std::vector<std::int64_t> even_ep_sizes;  // those that give every rank as many experts
  std::vector<std::int64_t> moe_tp_sizes;
  std::vector<std::int64_t> tp_sizes;
  std::int64_t tokens = 0;  // of the tokenizer; 0: there is none
  std::string bos_token;
  std::string eos_token;
  bool chat_template = false;
  // Why serving would refuse the folder, one reason a part; empty: it would serve it.
  std::vector<std::string> problems;
};

// Looks at everything it can reach, and notes what it cannot. Blocks on the disk.
ModelInspection inspect_model(const std::filesystem::path& folder);

std::string to_text(const ModelInspection& inspection);
Json to_json(const ModelInspection& inspection);

}  // namespace pleiad::apps
