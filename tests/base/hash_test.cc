#include "base/hash.h"

#include <vector>

#include <gtest/gtest.h>

// The plain loops of the published algorithm, which hash64 is compared with.
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_SCALAR
#include <xxhash.h>

#include "base/random.h"

namespace pleiad {
namespace {

TEST(Hash64, IsXxh3) {
  EXPECT_EQ(hash64(""), 0x2D06800538D394C2U);  // the published value of no bytes
  EXPECT_NE(hash64("a"), hash64("b"));
  EXPECT_NE(hash64("a"), hash64("a", 1));
  EXPECT_EQ(hash64("abc"), hash64(std::as_bytes(std::span("abc", 3))));
}

TEST(Hash64, HasTheValuesOfPlainLoopsForAnyLengthPlaceAndSeed) {
  constexpr std::size_t kBytes = std::size_t{64} << 10U;
  Random random(1);
  std::vector<std::byte> bytes(kBytes);
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(random.below(256));
  }
  for (int i = 0; i < 4000; ++i) {
    const std::size_t begin = random.below(256);
    // As many short ones, stripes and blocks as long ones.
    const std::size_t length_max = std::size_t{1} << random.between(4, 15);
    const auto part = std::span<const std::byte>(bytes).subspan(begin, random.below(length_max));
    const std::uint64_t seed = random.below(4) == 0 ? 0 : random.next();
    ASSERT_EQ(hash64(part, seed), XXH3_64bits_withSeed(part.data(), part.size(), seed))
        << part.size() << " bytes from " << begin << ", seed " << seed;
  }
}

}  // namespace
}  // namespace pleiad
