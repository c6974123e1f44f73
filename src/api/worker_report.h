#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/generation.h"
#include "base/json.h"
#include "base/result.h"

namespace pleiad::api {

// What a worker does of a request (--disaggregation-mode).
enum class Role {
  Both,
  Prefill,  // computes prompts for decode workers; answers whole requests, too
  Decode,   // takes prompts' keys and values over from prefill workers; computes them itself, too
};

std::string_view to_string(Role role);  // "both", "prefill", "decode"
std::optional<Role> parse_role(std::string_view name);

// What a worker tells those who send it requests: what it is, and how its dp ranks stand.
struct WorkerReport {
  // What workers of one pool must have in common, so that any of them gives the same tokens.
  struct Identity {
    std::string version;
    std::string model;    // name
    std::string digest;   // of config and tensors
    std::string compute;  // the arithmetic, in words
    std::int64_t page_tokens = 0;

    friend bool operator==(const Identity&, const Identity&) = default;
  };

  std::string instance;  // of this start of the process; another after a restart
  Identity identity;
  Role role = Role::Both;
  GeneratorLimits limits;
  bool accepting = false;
  std::vector<GeneratorStatus> ranks;  // [dp ranks]
};

// Names the start of the worker that a peer's request is meant for; another start refuses it, so
// that what is told of a request is never told of another's.
inline constexpr std::string_view kInstanceHeader = "x-pleiad-instance";

Json to_json(const WorkerReport& report);
// Fails with Corrupt, naming the member that is missing or none.
Result<WorkerReport> worker_report_of(const Json& json);

// "digest a here, b there" for the first thing two identities differ in; empty when they do not.
std::string difference(const WorkerReport::Identity& here, const WorkerReport::Identity& there);

}  // namespace pleiad::api
