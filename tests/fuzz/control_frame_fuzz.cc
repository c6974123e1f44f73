#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "comm/detail/frame.h"
#include "comm/detail/guest.h"

namespace {

using pleiad::comm::FrameReader;

// What comes out of `stream` arriving in pieces of `piece` bytes; a failure adds "!".
std::string frames_of(std::span<const std::byte> stream, std::size_t piece) {
  FrameReader reader;
  std::string seen;
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    reader.feed(stream.subspan(at, std::min(piece, stream.size() - at)));
    for (;;) {
      const auto frame = reader.next();
      if (!frame.ok()) return seen + "!";
      if (!*frame) break;
      seen += std::to_string((*frame)->kind) + ":";
      seen.append(reinterpret_cast<const char*>((*frame)->bytes.data()), (*frame)->bytes.size());
      // What a handshake would make of it.
      static_cast<void>(pleiad::comm::decode_opening((*frame)->bytes).ok());
    }
  }
  return seen;
}

}  // namespace

// However a stream is cut, the same frames come out of it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto stream = std::as_bytes(std::span(bytes, size));
  const std::string whole = frames_of(stream, size + 1);
  if (whole != frames_of(stream, 1) || whole != frames_of(stream, 13)) std::abort();
  return 0;
}
