#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "engine/node_report.h"

// Whatever is read is what writing gives back.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  const auto read =
      pleiad::engine::decode_report(input, {.ranks = {.first = 2, .count = 2}, .expert_tokens = 4});
  if (!read.ok()) return 0;
  const auto written = pleiad::engine::encode(*read);
  if (!std::equal(input.begin(), input.end(), written.begin(), written.end())) std::abort();
  return 0;
}
