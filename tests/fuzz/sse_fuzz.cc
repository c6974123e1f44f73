#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "net/sse.h"

namespace {

using pleiad::net::SseEvent;

// The events of `text` arriving in pieces of `piece` bytes, each written again; a failure adds "!".
std::string events_of(std::string_view text, std::size_t piece) {
  std::string seen;
  pleiad::net::SseParser parser(100);
  pleiad::net::UniqueFunction<void(const SseEvent&)> collect = [&seen](const SseEvent& event) {
    if (!pleiad::is_valid_utf8(event.data)) std::abort();
    append_sse_event(event, seen);
  };
  for (std::size_t at = 0; at < text.size(); at += piece) {
    if (!parser.feed(text.substr(at, piece), collect).ok()) return seen + "!";
  }
  return seen;
}

}  // namespace

// However a stream is cut, the same events come out, and what they are written as reads the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const std::string whole = events_of(text, size + 1);
  if (whole != events_of(text, 1) || whole != events_of(text, 5)) std::abort();
  return 0;
}
