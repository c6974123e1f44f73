#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/dtype.h"
#include "ep/route.h"

namespace pleiad::ep {

// Sizes that a group's messages share.
struct RowFormat {
  std::int64_t hidden = 0;
  std::int64_t topk = 0;
  device::DType dtype = device::DType::F32;  // of activations on the wire
};

// A message of rows on their way to experts: a head, then [rows, topk] routes, [rows, topk]
// weights, [rows, hidden] activations.
struct DispatchHead {
  std::uint32_t rows = 0;
  std::uint32_t rounds = 0;  // messages of this lane and layer in all, this one included
};

// A dispatch message in memory.
struct DispatchParts {
  std::span<Route> routes;
  std::span<float> weights;
  std::span<std::byte> x;
};

// Bytes of a message of `rows` rows.
std::size_t dispatch_bytes(const RowFormat& format, std::int64_t rows);

// Writes the head of a message of `rows` rows into `message` and returns where the rest goes.
DispatchParts
begin_dispatch(const RowFormat& format, const DispatchHead& head, std::span<std::byte> message);

// Reads a received message. Fails with Corrupt when its length, its number of rows (at most
// `rows_max`), a route (experts ascending below `experts`, holders below `holders`) contradict the
// format: nothing of it is used then.
struct DispatchLimits {
  std::int64_t rows_max = 0;
  std::int64_t experts = 0;
  std::int64_t holders = 0;
};
struct DispatchView {
  DispatchHead head;
  std::span<const Route> routes;
  std::span<const float> weights;
  std::span<const std::byte> x;
};
Result<DispatchView> read_dispatch(
    const RowFormat& format,
    const DispatchLimits& limits,
    std::span<const std::byte> message
);

}  // namespace pleiad::ep
