#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace pleiad::router {

// Reads the typed, range-checked members of one mapping of a configuration file. Every failure is
// InvalidInput and names the member by its path, what it must be, what it is and, where there is
// one, the nearest valid value. Members that are missing give nothing.
class MappingReader {
 public:
  // `where` the mapping stands, such as "keys[2]"; empty: it is the whole file. Fails on anything
  // but a mapping, on keys that are not `known` and on members without a value. `value` must
  // outlive the reader.
  static Result<MappingReader>
  open(const Json& value, std::string where, std::span<const std::string_view> known);

  [[nodiscard]] const Json* find(std::string_view key) const { return object_->find(key); }
  // "keys[2].name".
  [[nodiscard]] std::string path_of(std::string_view key) const;

  [[nodiscard]] Result<std::optional<std::int64_t>>
  integer(std::string_view key, std::int64_t low, std::int64_t high) const;
  [[nodiscard]] Result<std::optional<double>> number(std::string_view key, double low, double high)
      const;
  [[nodiscard]] Result<std::optional<std::string>> text(std::string_view key) const;
  // One string, or a list of 1 to `count_max`.
  [[nodiscard]] Result<std::vector<std::string>> texts(std::string_view key, std::size_t count_max)
      const;
  // A list of at most `count_max` of anything; null: it is missing.
  [[nodiscard]] Result<const JsonArray*> list(std::string_view key, std::size_t count_max) const;

 private:
  MappingReader(const Json& object, std::string where)
      : object_(&object), where_(std::move(where)) {}

  const Json* object_;
  std::string where_;
};

}  // namespace pleiad::router
