#include <cstddef>
#include <cstdint>
#include <string_view>

#include "api/generation_stream.h"

namespace {

class Nowhere final : public pleiad::api::GenerationSink {
 public:
  void on_prompt_token(const pleiad::api::TokenEvent& /*event*/) override {}
  void on_token(const pleiad::api::TokenEvent& /*event*/) override {}
  void on_finish(const pleiad::api::FinishEvent& /*event*/) override {}
};

}  // namespace

// Read at once or byte by byte, a stream is the same: good, bad or unfinished.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(bytes), size);
  Nowhere nowhere;
  pleiad::api::GenerationStreamReader whole(nowhere);
  const bool good = whole.feed(input).ok();
  pleiad::api::GenerationStreamReader pieces(nowhere);
  bool good_in_pieces = true;
  for (std::size_t i = 0; good_in_pieces && i < size; ++i) {
    good_in_pieces = pieces.feed(input.substr(i, 1)).ok();
  }
  if (good != good_in_pieces || (good && whole.finished() != pieces.finished())) __builtin_trap();
  return 0;
}
