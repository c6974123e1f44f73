#pragma once

#include <string_view>

#include "base/result.h"
#include "text/detail/jinja_ast.h"

namespace pleiad::text::detail {

// Parses a template of the supported part of Jinja 3 (see chat_template.h). Fails with InvalidInput
// or Unsupported, naming the line and the construct. Nesting is bounded, so any text is safe to
// parse.
Result<ParsedTemplate> parse_template(std::string_view source);

}  // namespace pleiad::text::detail
