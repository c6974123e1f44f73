#include "kv/paged_cache.h"

#include <cstring>
#include <memory>
#include <utility>

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

// Memory that notes when it goes.
class NotedMemory final : public CacheMemory {
 public:
  NotedMemory(std::byte* data, bool& gone) : data_(data), gone_(gone) {}
  ~NotedMemory() override { gone_ = true; }
  std::byte* data() override { return data_; }

 private:
  std::byte* data_;
  bool& gone_;
};

TEST(PagedCache, OverOtherMemoryOnlyCountsAddressesAndKeepsItAlive) {
  const CacheShape shape{.layers = 2, .width = 8, .dtype = device::DType::F32};
  std::byte nowhere{};
  bool gone = false;
  {
    PagedCache cache =
        PagedCache::elsewhere(shape, 4, std::make_unique<NotedMemory>(&nowhere, gone));
    const PagedCache moved = std::move(cache);
    EXPECT_EQ(moved.pages(), 4);
    EXPECT_FALSE(gone);
  }
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace pleiad::kv
