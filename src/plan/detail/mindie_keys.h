#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "plan/mindie_config.h"

namespace pleiad::plan::detail {

// What a key comes to.
struct Verdict {
  MindieOutcome outcome = MindieOutcome::Ignored;
  FlagSetting mapped;
  std::string reason;
};

// A value and where it stands: `parent` is the object that the key stands in, `root` the
// ModelDeployConfig.
struct Scene {
  const Json& value;
  const Json& parent;
  const Json& root;
};

// A key that holds a value.
struct Leaf {
  std::string_view key;
  Verdict (*judge)(const Scene& scene);
};

// The keys with values of each object of a ModelDeployConfig.
std::span<const Leaf> deploy_keys();  // ModelDeployConfig
std::span<const Leaf> model_keys();   // ModelConfig[0]
std::span<const Leaf> family_keys();  // ModelConfig[0].models.deepseekv2
std::span<const Leaf> eplb_keys();    // ModelConfig[0].models.deepseekv2.eplb

}  // namespace pleiad::plan::detail
