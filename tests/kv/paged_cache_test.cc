#include "kv/paged_cache.h"

#include <cstring>

#include <gtest/gtest.h>

namespace pleiad::kv {
namespace {

TEST(PagedCache, PagesAreWholeCacheLines) {
  const CacheShape shape{.layers = 3, .width = 40, .dtype = device::DType::BF16};

  EXPECT_EQ(shape.page_bytes(), 64U * 40 * 2);
  EXPECT_EQ(shape.page_bytes_all_layers(), 3 * shape.page_bytes());
  EXPECT_EQ(CacheShape({.layers = 1, .width = 1, .dtype = device::DType::U8}).page_bytes(), 64U);
}

TEST(PagedCache, LayersDoNotOverlap) {
  const CacheShape shape{.layers = 2, .width = 8, .dtype = device::DType::F32};
  auto cache = PagedCache::allocate(shape, 4);
  ASSERT_TRUE(cache.ok());
  const std::size_t layer_bytes = shape.page_bytes() * 4;

  std::memset(cache->layer(0), 1, layer_bytes);
  std::memset(cache->layer(1), 2, layer_bytes);

  EXPECT_EQ(cache->layer(0)[layer_bytes - 1], std::byte{1});
  EXPECT_EQ(cache->layer(1)[0], std::byte{2});
}

}  // namespace
}  // namespace pleiad::kv
