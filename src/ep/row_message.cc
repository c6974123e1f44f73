#include "ep/row_message.h"

#include <cstring>

#include "base/check.h"

namespace pleiad::ep {
namespace {

// Where the parts of a message stand. Every part's size is a multiple of four, so all are aligned.
struct Offsets {
  std::size_t routes = 0;
  std::size_t weights = 0;
  std::size_t x = 0;
  std::size_t end = 0;
};

Offsets offsets_of(const RowFormat& format, std::int64_t rows) {
  const auto choices = static_cast<std::size_t>(rows * format.topk);
  Offsets at;
  at.routes = sizeof(DispatchHead);
  at.weights = at.routes + choices * sizeof(Route);
  at.x = at.weights + choices * sizeof(float);
  at.end = at.x + static_cast<std::size_t>(rows * format.hidden) * device::size_of(format.dtype);
  return at;
}

template <typename T, typename Byte>
std::span<T> typed(Byte* at, std::int64_t count) {
  return {reinterpret_cast<T*>(at), static_cast<std::size_t>(count)};
}

bool exists(const Route& route, const plan::ExpertPlacement& placement) {
  if (route.expert >= placement.experts() || route.holder >= placement.ranks()) return false;
  return placement.holds(route.holder, route.expert);
}

bool routes_fit(
    std::span<const Route> routes,
    const RowFormat& format,
    const plan::ExpertPlacement& placement
) {
  for (std::size_t i = 0; i < routes.size(); ++i) {
    if (!exists(routes[i], placement)) return false;
    const bool first = i % static_cast<std::size_t>(format.topk) == 0;
    if (!first && routes[i - 1].expert >= routes[i].expert) return false;
  }
  return true;
}

}  // namespace

std::size_t dispatch_bytes(const RowFormat& format, std::int64_t rows) {
  return offsets_of(format, rows).end;
}

DispatchParts
begin_dispatch(const RowFormat& format, const DispatchHead& head, std::span<std::byte> message) {
  const Offsets at = offsets_of(format, head.rows);
  PLEIAD_CHECK(message.size() >= at.end);
  std::memcpy(message.data(), &head, sizeof(head));
  const std::int64_t choices = head.rows * format.topk;
  return {
      .routes = typed<Route>(message.data() + at.routes, choices),
      .weights = typed<float>(message.data() + at.weights, choices),
      .x = message.subspan(at.x, at.end - at.x),
  };
}

Result<DispatchView> read_dispatch(
    const RowFormat& format,
    const DispatchLimits& limits,
    std::span<const std::byte> message
) {
  DispatchView view;
  if (message.size() < sizeof(view.head)) {
    return corrupt("a dispatch message of {} bytes has no head", message.size());
  }
  std::memcpy(&view.head, message.data(), sizeof(view.head));
  if (view.head.rows > limits.rows_max) {
    return corrupt(
        "a dispatch message says {} rows, {} is the most", view.head.rows, limits.rows_max
    );
  }
  if (view.head.rounds < 1 || view.head.rounds > limits.rounds_max) {
    return corrupt(
        "a dispatch message says {} rounds, 1 to {} are possible",
        view.head.rounds,
        limits.rounds_max
    );
  }
  const Offsets at = offsets_of(format, view.head.rows);
  if (message.size() != at.end) {
    return corrupt(
        "a dispatch message of {} rows has {} bytes, not {}", view.head.rows, message.size(), at.end
    );
  }
  const std::int64_t choices = view.head.rows * format.topk;
  view.routes = typed<const Route>(message.data() + at.routes, choices);
  view.weights = typed<const float>(message.data() + at.weights, choices);
  view.x = message.subspan(at.x);
  if (!routes_fit(view.routes, format, *limits.placement)) {
    return corrupt("a dispatch message names experts where they do not stand, or out of order");
  }
  return view;
}

}  // namespace pleiad::ep
