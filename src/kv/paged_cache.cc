#include "kv/paged_cache.h"

#include <utility>

#include "base/check.h"

namespace pleiad::kv {

std::size_t CacheShape::page_bytes() const {
  const std::size_t exact = static_cast<std::size_t>(kPageTokens * width) * device::size_of(dtype);
  return (exact + 63) / 64 * 64;
}

std::size_t CacheShape::page_bytes_all_layers() const {
  return page_bytes() * static_cast<std::size_t>(layers);
}

Result<PagedCache> PagedCache::allocate(const CacheShape& shape, std::int64_t pages) {
  PLEIAD_CHECK(shape.layers > 0 && shape.width > 0 && pages > 0);
  const std::size_t bytes = shape.page_bytes_all_layers() * static_cast<std::size_t>(pages);
  PLEIAD_TRY(memory, device::Buffer::allocate(bytes));
  return PagedCache(shape, pages, std::move(memory));
}

PagedCache::PagedCache(const CacheShape& shape, std::int64_t pages, device::Buffer memory)
    : shape_(shape), pages_(pages), memory_(std::move(memory)) {}

std::byte* PagedCache::layer(std::int64_t index) {
  PLEIAD_CHECK(index >= 0 && index < shape_.layers);
  return memory_.data() + shape_.page_bytes() * static_cast<std::size_t>(index * pages_);
}

}  // namespace pleiad::kv
