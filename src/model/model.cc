#include "model/model.h"

#include <array>
#include <string>

#include "model/deepseek_v3.h"

namespace pleiad::model {
namespace {

constexpr std::array<Architecture, 1> kArchitectures = {{
    {.name = "DeepseekV3ForCausalLM", .shape = deepseek_v3_shape, .load = load_deepseek_v3},
}};

std::string supported_names() {
  std::string names;
  for (const Architecture& row : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

}  // namespace

Result<const Architecture*> find_architecture(const Json& config) {
  const Json* list = config.find("architectures");
  const JsonArray* names = list == nullptr ? nullptr : list->as_array();
  if (names == nullptr || names->empty() || !names->front().is_string()) {
    return invalid_input("config.json: architectures must be a list of one name");
  }
  const std::string& name = *names->front().as_string();
  for (const Architecture& row : kArchitectures) {
    if (row.name == name) return &row;
  }
  return unsupported(
      "config.json: architecture {} is not supported; supported: {}", name, supported_names()
  );
}

}  // namespace pleiad::model
