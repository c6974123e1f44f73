#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/dtype.h"
#include "ep/route.h"
#include "plan/expert_placement.h"

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

// What a received message may say.
struct DispatchLimits {
  std::int64_t rows_max = 0;
  std::int64_t rounds_max = 0;
  const plan::ExpertPlacement* placement = nullptr;
};
struct DispatchView {
  DispatchHead head;
  std::span<const Route> routes;
  std::span<const float> weights;
  std::span<const std::byte> x;
};
// Reads a received message. Fails with Corrupt when its length, its numbers of rows or rounds, or a
// route (a row's experts ascending, each at a holder where the placement has it) contradict format
// and limits: nothing of it is used then.
Result<DispatchView> read_dispatch(
    const RowFormat& format,
    const DispatchLimits& limits,
    std::span<const std::byte> message
);

}  // namespace pleiad::ep
