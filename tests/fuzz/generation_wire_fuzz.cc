#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "api/generation_wire.h"

namespace {

template <typename Decoded>
void must_be(std::span<const std::byte> input, const Decoded& decoded) {
  if (!decoded.ok()) return;
  const auto written = pleiad::api::encode(*decoded);
  if (!std::equal(input.begin(), input.end(), written.begin(), written.end())) std::abort();
}

// An absent optional's value is not kept, so only a second round is exact.
template <typename Decoded, typename Decode>
void must_settle(const Decoded& decoded, Decode decode) {
  if (!decoded.ok()) return;
  const auto written = pleiad::api::encode(*decoded);
  const auto again = decode(written);
  if (!again.ok() || pleiad::api::encode(*again) != written) std::abort();
}

}  // namespace

// Whatever decodes is what encoding writes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  must_settle(pleiad::api::decode_submit(input), pleiad::api::decode_submit);
  must_settle(pleiad::api::decode_prefill_order(input), pleiad::api::decode_prefill_order);
  must_be(input, pleiad::api::decode_token(input));
  must_settle(pleiad::api::decode_finish(input), pleiad::api::decode_finish);
  must_be(input, pleiad::api::decode_status(input));
  return 0;
}
