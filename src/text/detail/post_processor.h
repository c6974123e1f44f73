#pragma once

#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"

namespace pleiad::text::detail {

// What a tokenizer puts around a text when special tokens are asked for.
struct Frame {
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};

// From the "post_processor" member of tokenizer.json: null, ByteLevel (which adds nothing),
// TemplateProcessing, or a Sequence of them. Unsupported names any other type.
Result<Frame> parse_post_processor(const Json& config);

}  // namespace pleiad::text::detail
