#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace pleiad::model {

// Reads typed members of a config.json and remembers the first thing that was wrong, so that a
// parser reads as a list of fields and asks once at the end. Numbers are range-checked: sizes
// beyond 2^24 are not sizes of a model.
class ConfigReader {
 public:
  // `object` must outlive the reader; `path` is the prefix of names in error texts
  // ("rope_scaling.").
  explicit ConfigReader(const Json& object, std::string path = "");

  // A member that must be there. `low` is the smallest value allowed.
  std::int64_t integer(std::string_view key, std::int64_t low);
  std::int64_t integer_or(std::string_view key, std::int64_t low, std::int64_t fallback);
  double number(std::string_view key);
  double number_or(std::string_view key, double fallback);
  bool boolean_or(std::string_view key, bool fallback);
  std::string text_or(std::string_view key, std::string_view fallback);
  // One id or a list of ids; none when the member is missing or null.
  std::vector<std::int64_t> ids(std::string_view key);
  // A list of numbers of layers or the like; none when the member is missing or null.
  std::vector<std::int64_t> integers(std::string_view key);
  // A list of texts, likewise.
  std::vector<std::string> texts(std::string_view key);
  // True when an accessor above was asked for `key`.
  [[nodiscard]] bool was_read(std::string_view key) const;
  // The member when it exists, is not null and was not read, else null.
  [[nodiscard]] const Json* unread(std::string_view key) const;
  // Keys of all such members, in their order.
  [[nodiscard]] std::vector<std::string> unread_keys() const;
  // True when the member exists and is not null. Does not count as reading it; nor does object().
  [[nodiscard]] bool has(std::string_view key) const;
  // The member when it is a non-null object, else null.
  [[nodiscard]] const Json* object(std::string_view key) const;

  // Notes that `key` has a value this program does not compute.
  void refuse(std::string_view key, std::string_view value, std::string_view supported);
  void fail(Error error);

  // The first error noted, if any.
  [[nodiscard]] Result<void> result() const;

 private:
  [[nodiscard]] const Json* peek(std::string_view key) const;
  const Json* find(std::string_view key);
  const Json* need(std::string_view key);

  const Json& object_;
  std::string path_;
  std::set<std::string, std::less<>> read_;
  std::optional<Error> error_;
};

}  // namespace pleiad::model
