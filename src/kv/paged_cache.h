#pragma once

#include <cstddef>
#include <cstdint>

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

// The bytes of a paged KV cache: [layers, pages, 64 tokens, width]. Knows nothing of who uses which
// page (that is the scheduler's). Not thread-safe beyond what its users arrange.
class PagedCache {
 public:
  // A cache of no pages.
  PagedCache() = default;
  // Fails with Exhausted when memory is short. Pages become resident when first written.
  static Result<PagedCache> allocate(const CacheShape& shape, std::int64_t pages);

  [[nodiscard]] const CacheShape& shape() const { return shape_; }
  [[nodiscard]] std::int64_t pages() const { return pages_; }
  // First page of a layer; page p follows at p * shape().page_bytes().
  [[nodiscard]] std::byte* layer(std::int64_t index);

 private:
  PagedCache(const CacheShape& shape, std::int64_t pages, device::Buffer memory);

  CacheShape shape_;
  std::int64_t pages_ = 0;
  device::Buffer memory_;
};

}  // namespace pleiad::kv
