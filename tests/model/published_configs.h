#pragma once

#include <string_view>
#include <vector>

namespace pleiad::model {

struct PublishedConfig {
  std::string_view name;
  std::string_view text;
};

// config.json of published checkpoints, with the keys that training and other programs read too,
// but without quantization_config.
std::vector<PublishedConfig> published_configs();

}  // namespace pleiad::model
