#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

namespace pleiad::router {

// A class of requests that are equally urgent, and the line in which they wait for their start.
struct ClassRules {
  std::string name;
  // By which clients may choose it, and with which its requests are sent on (lower is more urgent);
  // none: what the client asked for is sent on.
  std::optional<std::int32_t> priority;
  // While several classes wait they start tokens in the ratio of their weights.
  std::int64_t weight = 1;
  std::size_t queue_max = 0;  // may wait
  Nanoseconds wait_max = std::chrono::seconds(30);
};

// What a key may do.
struct KeyRules {
  std::string name;
  std::vector<std::string> classes;  // that it may use, its usual one first; empty: all
  std::optional<std::int64_t> requests_per_minute;
  std::optional<std::int64_t> tokens_per_minute;
  std::optional<std::size_t> concurrent_max;  // requests at once
};

struct AdmissionRules {
  std::vector<ClassRules> classes = {{.name = "default"}};  // at least one
  std::vector<KeyRules> keys;
  KeyRules other_keys;  // for each that is not among them
  // At once, of all keys; beyond, requests wait in line.
  std::size_t concurrent_max = 4096;
  std::optional<std::int64_t> tokens_max;  // places in the KV caches that they may take
  // What the output of a request that names no bound counts as until it has ended.
  std::int64_t assumed_output_tokens = 1024;
};

}  // namespace pleiad::router
