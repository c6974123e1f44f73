#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "comm/detail/node_hello.h"

namespace {

void must_be(std::span<const std::byte> bytes, std::span<const std::byte> written) {
  if (!std::equal(bytes.begin(), bytes.end(), written.begin(), written.end())) std::abort();
}

}  // namespace

// Whatever decodes is exactly what encoding writes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  const auto hello = pleiad::comm::decode_hello(input);
  if (hello.ok()) must_be(input, pleiad::comm::encode_hello(*hello));
  const auto roster = pleiad::comm::decode_roster(input);
  if (roster.ok()) must_be(input, pleiad::comm::encode_roster(*roster));
  return 0;
}
