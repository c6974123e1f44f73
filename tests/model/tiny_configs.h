#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <iosfwd>

#include "base/json.h"

namespace pleiad::model::reference {

// One tiny model: its family's base configuration with some keys set.
struct TinyCase {
  std::string family;  // of the base, such as "Mixtral"
  std::string name;
  std::string changes = "{}";  // JSON; a member replaces the base's
  double score_bias = 0;       // see TinyOptions
  double sink = 0;
  std::string_view dtype = "F32";

  [[nodiscard]] Json config() const;
};

// Prints the name, for the test's listing.
std::ostream& operator<<(std::ostream& out, const TinyCase& tiny);

// Every family's list.
std::vector<TinyCase> tiny_cases();

// The same configuration as transformers 5 writes it.
Json hf5_spelling(const Json& config);

// Ends the test program when the file is no JSON.
Json read_json(const std::filesystem::path& file);

}  // namespace pleiad::model::reference
