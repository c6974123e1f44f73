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

PagedCache PagedCache::elsewhere(
    const CacheShape& shape,
    std::int64_t pages,
    std::unique_ptr<CacheMemory> memory
) {
  PLEIAD_CHECK(shape.layers > 0 && shape.width > 0 && pages > 0 && memory != nullptr);
  PagedCache cache(shape, pages, device::Buffer());
  cache.elsewhere_ = std::move(memory);
  return cache;
}

std::byte* PagedCache::layer(std::int64_t index) {
  PLEIAD_CHECK(index >= 0 && index < shape_.layers);
  std::byte* base = elsewhere_ == nullptr ? memory_.data() : elsewhere_->data();
  return base + shape_.page_bytes() * static_cast<std::size_t>(index * pages_);
}

}  // namespace pleiad::kv
