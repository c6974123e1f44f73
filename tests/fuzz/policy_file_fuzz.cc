#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "router/policy_file.h"

// Whatever is read names classes that exist, and keys that are told apart.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace pleiad::router;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto policy = read_policy_file(text, {});
  if (!policy.ok()) {
    if (policy.error().message.empty()) std::abort();
    return 0;
  }
  const AdmissionRules& rules = policy->admission;
  if (rules.classes.empty()) std::abort();
  for (const KeyRules& key : rules.keys) {
    for (const std::string& name : key.classes) {
      if (std::ranges::count(rules.classes, name, &ClassRules::name) != 1) std::abort();
    }
    if (std::ranges::count(rules.keys, key.name, &KeyRules::name) != 1) std::abort();
  }
  return 0;
}
