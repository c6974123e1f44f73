#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kv/lines.h"
#include "kv/paged_cache.h"
#include "kv/record.h"

namespace pleiad::kv {

// Grouped heads, wide enough that they can be cut into four parts.
inline constexpr LineShape kGrouped{
    .layers = 3,
    .heads = 4,
    .key_width = 6,
    .value_width = 5,
    .dtype = device::DType::BF16};
inline constexpr LineShape kLatent{
    .layers = 2,
    .heads = 1,
    .key_width = 20,
    .value_width = 0,
    .dtype = device::DType::F32};

// The caches of a rank's tensor parts; like the engine's, parts beyond the heads repeat them.
struct LineCaches {
  LineShape shape;
  std::vector<PagedCache> caches;
  std::vector<PartCache> parts;

  LineCaches(const LineShape& of, std::int64_t tensor_parts, std::int64_t pages) : shape(of) {
    for (std::int64_t part = 0; part < tensor_parts; ++part) {
      const HeadRange heads{
          shape.heads * part / tensor_parts, std::max<std::int64_t>(1, shape.heads / tensor_parts)};
      const PartPlan plan{.shape = shape, .heads = heads, .pages = pages};
      caches.push_back(PagedCache::allocate(plan.cache_shape(), pages).value());
      parts.push_back({.plan = plan, .base = caches.back().layer(0)});
    }
  }

  // What token `token` of a sequence has in byte `byte` of a head's key, then value.
  static std::byte
  value(std::int64_t layer, std::int64_t head, std::int64_t token, std::size_t at) {
    const auto mixed = static_cast<std::size_t>(layer * 131 + head * 31 + token * 7) + at * 13;
    return static_cast<std::byte>(mixed * 2654435761U >> 8U);
  }

  // Calls visit(byte, layer, head, token, index) for every byte of the tokens.
  template <typename Visit>
  void for_each(
      const std::vector<std::uint32_t>& table,
      std::int64_t first,
      std::int64_t end,
      Visit visit
  ) {
    const std::size_t element = device::size_of(shape.dtype);
    const auto key = static_cast<std::size_t>(shape.key_width) * element;
    const auto wide = static_cast<std::size_t>(shape.value_width) * element;
    for (PartCache& part : parts) {
      const auto heads = static_cast<std::size_t>(part.plan.heads.count);
      for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
        for (std::int64_t token = first; token < end; ++token) {
          const auto page = table[static_cast<std::size_t>(token / kPageTokens)];
          std::byte* line = part.base + part.plan.offset(layer, page, token % kPageTokens);
          for (std::size_t h = 0; h < heads; ++h) {
            const std::int64_t head = part.plan.heads.first + static_cast<std::int64_t>(h);
            for (std::size_t i = 0; i < key; ++i)
              visit(line[h * key + i], layer, head, token, i);
            for (std::size_t i = 0; i < wide; ++i)
              visit(line[heads * key + h * wide + i], layer, head, token, key + i);
          }
        }
      }
    }
  }

  void fill(const std::vector<std::uint32_t>& table, std::int64_t first, std::int64_t end) {
    for_each(table, first, end, [](std::byte& at, auto layer, auto head, auto token, auto i) {
      at = value(layer, head, token, i);
    });
  }
  // Bytes that are not what fill() writes.
  std::size_t wrong(const std::vector<std::uint32_t>& table, std::int64_t first, std::int64_t end) {
    std::size_t count = 0;
    for_each(
        table,
        first,
        end,
        [&](const std::byte& at, auto layer, auto head, auto token, auto i) {
          count += at == value(layer, head, token, i) ? 0U : 1U;
        }
    );
    return count;
  }
};

// Page numbers in no order.
inline std::vector<std::uint32_t> shuffled_pages(Random& random, std::uint32_t count) {
  std::vector<std::uint32_t> pages(count);
  for (std::uint32_t i = 0; i < count; ++i)
    pages[i] = i;
  for (std::uint32_t i = count; i > 1; --i)
    std::swap(pages[i - 1], pages[random.below(i)]);
  return pages;
}

}  // namespace pleiad::kv
