#include "weights/noise_tensor.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "weights/checkpoint.h"

namespace pleiad::weights {
namespace {

using device::DType;

NoiseTensor matrix(std::string name, DType dtype, float mean = 0.0F, float deviation = 0.02F) {
  return {
      .name = std::move(name),
      .dtype = dtype,
      .shape = {.extents = {512, 256}, .rank = 2},
      .mean = mean,
      .deviation = deviation};
}

float bf16_at(const device::TensorView& view, std::size_t index) {
  device::BF16 bits = 0;
  std::memcpy(&bits, view.bytes.data() + index * sizeof(bits), sizeof(bits));
  return device::bf16_to_float(bits);
}

TEST(NoiseTensor, HasTheMeanAndDeviationAskedFor) {
  const auto checkpoint = Checkpoint::made_up({matrix("a", DType::BF16, 1.0F, 0.5F)}).value();
  const auto view = checkpoint->tensor("a").value();

  double sum = 0.0;
  double squares = 0.0;
  const auto count = static_cast<std::size_t>(view.shape.elements());
  for (std::size_t i = 0; i < count; ++i) {
    const double value = bf16_at(view, i);
    sum += value;
    squares += (value - 1.0) * (value - 1.0);
  }
  const auto numbers = static_cast<double>(count);

  EXPECT_TRUE(checkpoint->is_made_up());
  EXPECT_NEAR(sum / numbers, 1.0, 0.01);
  EXPECT_NEAR(std::sqrt(squares / numbers), 0.5, 0.01);
}

TEST(NoiseTensor, TensorsOfOtherNamesHoldOtherNumbersAndTheSameNameTheSame) {
  const std::vector<NoiseTensor> tensors = {matrix("a", DType::F32), matrix("b", DType::F32)};
  const auto one = Checkpoint::made_up(tensors).value();
  const auto two = Checkpoint::made_up(tensors).value();
  const auto bytes = [](const Checkpoint& checkpoint, const char* name) {
    const auto view = checkpoint.tensor(name).value();
    return std::vector<std::byte>(view.bytes.begin(), view.bytes.end());
  };

  EXPECT_NE(bytes(*one, "a"), bytes(*one, "b"));
  EXPECT_EQ(bytes(*one, "a"), bytes(*two, "a"));
}

TEST(NoiseTensor, MoreBytesThanABlockGoOnFromItsBeginning) {
  NoiseTensor large = matrix("large", DType::BF16);
  large.shape = {.extents = {3, RepeatedMemory::kBlockBytes / 2}, .rank = 2};
  const auto checkpoint = Checkpoint::made_up({large}).value();
  const auto bytes = checkpoint->tensor("large").value().bytes;

  ASSERT_EQ(bytes.size(), 3 * RepeatedMemory::kBlockBytes);
  EXPECT_EQ(
      std::memcmp(
          bytes.data(), bytes.data() + RepeatedMemory::kBlockBytes, RepeatedMemory::kBlockBytes
      ),
      0
  );
  std::vector<std::byte> read(1000);
  ASSERT_TRUE(checkpoint->read(bytes.subspan(77, 1000), read).ok());
  EXPECT_EQ(std::memcmp(read.data(), bytes.data() + 77, read.size()), 0);
}

TEST(NoiseTensor, CodesOfEveryTypeAreNumbersOfTheirType) {
  const auto checkpoint = Checkpoint::made_up({
                                                  matrix("f8", DType::F8E4M3, 0.0F, 64.0F),
                                                  matrix("i8", DType::I8, 0.0F, 40.0F),
                                                  matrix("f16", DType::F16),
                                                  matrix("power", DType::U8, 0.125F, 0.0F),
                                                  matrix("blocks", DType::U8),
                                                  matrix("words", DType::I32),
                                              })
                              .value();
  const auto eighths = checkpoint->tensor("f8").value();
  for (const std::byte code : eighths.bytes) {
    EXPECT_NE(std::to_integer<unsigned>(code) & 0x7FU, 0x7FU);
  }
  const auto powers = checkpoint->tensor("power").value();
  for (const std::byte code : powers.bytes) {
    EXPECT_EQ(device::f8e8m0_to_float(std::to_integer<std::uint8_t>(code)), 0.125F);
  }
  const auto halves = checkpoint->tensor("f16").value();
  for (std::size_t i = 0; i < 1000; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, halves.bytes.data() + i * sizeof(bits), sizeof(bits));
    EXPECT_LT(std::abs(device::f16_to_float(bits)), 0.1F);
  }
}

TEST(NoiseTensor, ATypeWithoutNoiseIsRefusedByName) {
  const auto made = Checkpoint::made_up({matrix("shape", DType::I64)});
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("shape"), std::string::npos);
}

}  // namespace
}  // namespace pleiad::weights
