#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"

namespace pleiad::server {

// The keys that open a server, kept as digests, each with a name that may be told. None: everybody
// may come in. A plain value; const members on any thread.
class ApiKeys {
 public:
  ApiKeys() = default;
  // Named "api-key-1" and so on.
  explicit ApiKeys(const std::vector<std::string>& keys);

  // One more key. Several may have one name.
  void add(std::string name, const Sha256& digest);

  [[nodiscard]] std::size_t size() const { return keys_.size(); }
  [[nodiscard]] bool open_to_all() const { return keys_.empty(); }
  // The name of the key that an Authorization header carries, as "KEY" or "Bearer KEY"; none when
  // it opens nothing, empty when everybody may come in. The time taken does not tell how much of a
  // key was right, nor which one it was.
  [[nodiscard]] std::optional<std::string_view> identify(std::string_view authorization) const;
  [[nodiscard]] bool admits(std::string_view authorization) const {
    return identify(authorization).has_value();
  }

 private:
  struct Key {
    std::string name;
    Sha256 digest{};
  };
  std::vector<Key> keys_;
};

}  // namespace pleiad::server
