#include "kv/lines.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/hash.h"

namespace pleiad::kv {

CacheShape PartPlan::cache_shape() const {
  return {
      .layers = shape.layers,
      .width = heads.count * (shape.key_width + shape.value_width),
      .dtype = shape.dtype};
}

std::size_t PartPlan::offset(std::int64_t layer, std::uint32_t page, std::int64_t line) const {
  PLEIAD_CHECK(layer >= 0 && layer < shape.layers && page < pages && line >= 0);
  const auto pages_before = static_cast<std::size_t>(layer * pages + std::int64_t{page});
  return cache_shape().page_bytes() * pages_before +
         shape.bytes(heads.count) * static_cast<std::size_t>(line);
}

PagePiece piece_at(std::int64_t first, std::int64_t end) {
  const std::int64_t line = first % kPageTokens;
  return {
      .page = static_cast<std::size_t>(first / kPageTokens),
      .line = line,
      .first = first,
      .count = std::min(end - first, kPageTokens - line)};
}

std::uint64_t checksum_piece(std::uint64_t sum, std::span<const std::byte> lines) {
  return hash64(lines, sum);
}

void scatter(
    std::span<const std::byte> lines,
    const HeadRange& heads,
    const PartCache& to,
    std::int64_t layer,
    std::uint32_t page,
    const PagePiece& piece
) {
  const PartPlan& plan = to.plan;
  const std::int64_t first = std::max(heads.first, plan.heads.first);
  const std::int64_t end = std::min(heads.first + heads.count, plan.heads.first + plan.heads.count);
  if (first >= end) return;
  const LineShape& shape = plan.shape;
  const std::size_t from_line = shape.bytes(heads.count);
  const std::size_t to_line = shape.bytes(plan.heads.count);
  PLEIAD_CHECK(lines.size() == from_line * static_cast<std::size_t>(piece.count));
  std::byte* out = to.base + plan.offset(layer, page, piece.line);
  if (heads == plan.heads) {
    std::memcpy(out, lines.data(), lines.size());
    return;
  }
  const std::size_t element = device::size_of(shape.dtype);
  const auto bytes = [element](std::int64_t elements) {
    return static_cast<std::size_t>(elements) * element;
  };
  const std::size_t keys = bytes((end - first) * shape.key_width);
  const std::size_t values = bytes((end - first) * shape.value_width);
  // Of the first shared head in either line: its key, and its value behind all keys.
  const std::size_t from_key = bytes((first - heads.first) * shape.key_width);
  const std::size_t to_key = bytes((first - plan.heads.first) * shape.key_width);
  const std::size_t from_value =
      bytes(heads.count * shape.key_width + (first - heads.first) * shape.value_width);
  const std::size_t to_value =
      bytes(plan.heads.count * shape.key_width + (first - plan.heads.first) * shape.value_width);
  const std::byte* in = lines.data();
  for (std::int64_t i = 0; i < piece.count; ++i) {
    std::memcpy(out + to_key, in + from_key, keys);
    std::memcpy(out + to_value, in + from_value, values);
    in += from_line;
    out += to_line;
  }
}

}  // namespace pleiad::kv
