#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace pleiad::apps {

// The cluster's secret: of the file, without the white space at its end, or else of env
// PLEIAD_CLUSTER_SECRET. Empty when neither says. Call before any thread starts.
Result<std::string> read_cluster_secret(const std::string& file);

// Adds to `keys` that of env PLEIAD_API_KEY and those of the file, one a line. Call before any
// thread starts.
Result<void> read_api_keys(const std::string& file, std::vector<std::string>& keys);

// The same of env PLEIAD_ADMIN_KEY and the file of admin keys.
Result<void> read_admin_keys(const std::string& file, std::vector<std::string>& keys);

}  // namespace pleiad::apps
