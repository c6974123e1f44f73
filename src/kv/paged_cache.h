#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "device/buffer.h"
#include "device/dtype.h"

namespace pleiad::kv {

// Tokens in one page, for every model and device (DESIGN §6).
inline constexpr std::int64_t kPageTokens = 64;

// What one token keeps in each layer: under MLA the normalised latent, then the roped key; under
// grouped-query attention all heads' keys, then all heads' values.
struct CacheShape {
  std::int64_t layers = 0;
  std::int64_t width = 0;  // elements per token
  device::DType dtype = device::DType::BF16;

  // Bytes of one page of one layer, a multiple of 64.
  [[nodiscard]] std::size_t page_bytes() const;
  // Bytes of one page over all layers.
  [[nodiscard]] std::size_t page_bytes_all_layers() const;
};

// Memory of a cache that the cache does not allocate itself: of a device, or shared. Its bytes
// belong to whoever computes with it.
class CacheMemory {
 public:
  virtual ~CacheMemory() = default;
  [[nodiscard]] virtual std::byte* data() = 0;
};

// The bytes of a paged KV cache: [layers, pages, 64 tokens, width]. Knows nothing of who uses which
// page (that is the scheduler's). Not thread-safe beyond what its users arrange.
class PagedCache {
 public:
  // A cache of no pages.
  PagedCache() = default;
  // Fails with Exhausted when memory is short. Pages become resident when first written.
  static Result<PagedCache> allocate(const CacheShape& shape, std::int64_t pages);

  // A cache in another memory, of at least pages * shape.page_bytes_all_layers() bytes. The host
  // must not follow its pointers when that is a device's.
  static PagedCache
  elsewhere(const CacheShape& shape, std::int64_t pages, std::unique_ptr<CacheMemory> memory);

  [[nodiscard]] const CacheShape& shape() const { return shape_; }
  [[nodiscard]] std::int64_t pages() const { return pages_; }
  // First page of a layer; page p follows at p * shape().page_bytes().
  [[nodiscard]] std::byte* layer(std::int64_t index);

 private:
  PagedCache(const CacheShape& shape, std::int64_t pages, device::Buffer memory);

  CacheShape shape_;
  std::int64_t pages_ = 0;
  device::Buffer memory_;  // one of the two
  std::unique_ptr<CacheMemory> elsewhere_;
};

}  // namespace pleiad::kv
