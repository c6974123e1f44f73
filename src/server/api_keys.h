#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pleiad::server {

// The keys that open a server. None: everybody may come in. Immutable; any thread.
class ApiKeys {
 public:
  ApiKeys() = default;
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}

  [[nodiscard]] bool open_to_all() const { return keys_.empty(); }
  // Whether an Authorization header opens: "KEY" or "Bearer KEY". The time taken does not tell how
  // much of a key was right.
  [[nodiscard]] bool admits(std::string_view authorization) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace pleiad::server
