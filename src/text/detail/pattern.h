#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace pleiad::text::detail {

// tokenizer.json writes patterns in Oniguruma's Ruby syntax; we match with PCRE2 (multiline, UTF,
// UCP). The PCRE2 pattern that matches the same text. Rewritten are nested and intersected
// character classes ([a&&[^b]]), \h (a hex digit in Ruby), \u escapes, and \p{Script}, which PCRE2
// reads as script extensions. Unsupported names what has no equal.
Result<std::string> pcre_of_onig(std::string_view pattern);

}  // namespace pleiad::text::detail
