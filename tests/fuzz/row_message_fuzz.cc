#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "ep/row_message.h"

namespace {

using pleiad::ep::DispatchView;
using pleiad::ep::Route;

constexpr pleiad::ep::RowFormat kFormat{
    .hidden = 3,
    .topk = 2,
    .dtype = pleiad::device::DType::F32};

// Experts 0..3 at home on rank 0, the others on rank 1, and expert 3 on both.
pleiad::plan::ExpertPlacement placement() {
  return pleiad::plan::ExpertPlacement::make(8, {{0, 1, 2, 3}, {4, 5, 6, 7, 3}}).value();
}

void must(bool condition) {
  if (!condition) std::abort();
}

void check(const DispatchView& view, const pleiad::plan::ExpertPlacement& where) {
  must(view.head.rows <= 4 && view.head.rounds >= 1 && view.head.rounds <= 3);
  must(view.routes.size() == view.head.rows * 2U && view.weights.size() == view.routes.size());
  must(view.x.size() == view.head.rows * 3U * sizeof(float));
  for (std::size_t i = 0; i < view.routes.size(); ++i) {
    const Route& route = view.routes[i];
    must(route.expert < 8 && route.holder < 2 && where.holds(route.holder, route.expert));
    must(i % 2 == 0 || view.routes[i - 1].expert < route.expert);
  }
}

}  // namespace

// Whatever is accepted holds rows that experts can be run on.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto where = placement();
  // Messages lie aligned, as in receive buffers.
  std::vector<std::uint32_t> words(size / sizeof(std::uint32_t) + 1);
  if (size > 0) std::memcpy(words.data(), bytes, size);
  const auto message = std::as_bytes(std::span(words)).first(size);
  const auto read = pleiad::ep::read_dispatch(
      kFormat, {.rows_max = 4, .rounds_max = 3, .placement = &where}, message
  );
  if (read.ok()) check(*read, where);
  return 0;
}
