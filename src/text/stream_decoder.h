#pragma once

#include <string>

#include "base/token.h"
#include "text/tokenizer.h"

namespace pleiad::text {

// Turns tokens into text as they arrive: push() gives the text that no later token can change, so a
// character spread over several tokens appears whole. All pieces joined equal Tokenizer::decode().
// Borrows the tokenizer, which must outlive it. Not thread-safe.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, const DecodeOptions& options = {})
      : tokenizer_(&tokenizer), options_(options) {}

  // The text that became certain. An id without a token adds nothing.
  std::string push(TokenId id);

  // The rest: bytes that never became a character, as U+FFFD. The decoder is then as good as new.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  DecodeOptions options_;
  std::string pending_;  // the start of a UTF-8 sequence, at most 3 bytes between calls
};

}  // namespace pleiad::text
