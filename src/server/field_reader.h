#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/api_error.h"

namespace pleiad::server {

// Reads typed, range-checked members of a request object. Members that are missing or null give the
// fallback. Remembers the first thing that was wrong.
class FieldReader {
 public:
  // `object` must outlive the reader.
  explicit FieldReader(const Json& object) : object_(object) {}

  // The member, or null when it is missing or null.
  [[nodiscard]] const Json* find(std::string_view key) const;

  bool boolean(std::string_view key, bool fallback);
  // REQUIRES of the value: an integer in [low, high].
  std::int64_t
  integer(std::string_view key, std::int64_t fallback, std::int64_t low, std::int64_t high);
  std::optional<std::int64_t> integer_if(std::string_view key, std::int64_t low, std::int64_t high);
  double number(std::string_view key, double fallback, double low, double high);
  std::string text(std::string_view key, std::string_view fallback);
  // One string or a list of at most `count_max`.
  std::vector<std::string> texts(std::string_view key, std::size_t count_max);

  // Notes that `key` asks for something this server does not do.
  void refuse(std::string_view key, std::string message);
  void fail(ApiError error);
  [[nodiscard]] const std::optional<ApiError>& error() const { return error_; }

 private:
  const Json& object_;
  std::optional<ApiError> error_;
};

}  // namespace pleiad::server
