#pragma once

#include <cstddef>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace pleiad {

struct YamlLimits {
  std::size_t depth_max = 32;         // nesting of mappings and lists
  std::size_t bytes_max = 1U << 20U;  // length of the text
  std::size_t members_max = 1024;     // of one mapping
};

// Parses one YAML document into the values that JSON has: plain scalars that read as null, true,
// false or a JSON number are that; everything else, and all that is quoted, is a string (so are
// yes, no, on, off, and numbers with leading zeros). An empty text is null.
//
// Fails with InvalidInput, naming line and column, on malformed text, ill-formed UTF-8, duplicate
// or non-scalar keys, a second document, tags, anchors and aliases (a few lines of which can stand
// for more than any memory holds), and broken limits.
Result<Json> parse_yaml(std::string_view text, const YamlLimits& limits = {});

}  // namespace pleiad
