#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "router/admission_rules.h"
#include "router/policy.h"

namespace pleiad::router {

// An API key as a policy file has it: never the key itself.
struct KeyDigest {
  std::string name;
  Sha256 digest{};
};

// What an operator decides about a router that runs.
struct RouterPolicy {
  PolicyOptions routing;
  std::int64_t prefill_tokens_min = 256;  // RouterCoreOptions'
  AdmissionRules admission;
  std::vector<KeyDigest> keys;  // that open the router, beside those of its flags
};

// What bounds a policy file.
inline constexpr std::size_t kPolicyFileBytesMax = std::size_t{1} << 20U;

// Reads the text of a --policy-file (docs/router.md has its keys): JSON when it begins with a
// brace, YAML otherwise. What it leaves out is as in `defaults`. Strict: fails with InvalidInput,
// naming member, rule, value and the nearest valid one, on anything it does not know. Never repeats
// what stands in place of a digest: it may be a key. Pure.
Result<RouterPolicy> read_policy_file(std::string_view text, const RouterPolicy& defaults);

}  // namespace pleiad::router
