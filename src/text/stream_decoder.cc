#include "text/stream_decoder.h"

#include <utility>

#include "base/utf8.h"

namespace pleiad::text {

std::string StreamDecoder::push(TokenId id) {
  if (options_.skip_special && tokenizer_->is_special(id)) return {};
  pending_.append(tokenizer_->token_bytes(id));
  const std::size_t certain = pending_.size() - incomplete_utf8_tail(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, certain));
  pending_.erase(0, certain);
  return text;
}

std::string StreamDecoder::finish() {
  return replace_invalid_utf8(std::exchange(pending_, {}));
}

}  // namespace pleiad::text
