#include "device/cpu_isa.h"

#include <gtest/gtest.h>

namespace pleiad::device {
namespace {

TEST(CpuIsa, NamesAndParsesEachSet) {
  for (const CpuIsa isa : {CpuIsa::Portable, CpuIsa::Avx2, CpuIsa::Avx512, CpuIsa::Avx512Bf16}) {
    EXPECT_EQ(parse_cpu_isa(to_string(isa)), isa);
  }
  EXPECT_EQ(parse_cpu_isa("sse"), std::nullopt);
  EXPECT_EQ(parse_cpu_isa(""), std::nullopt);
}

TEST(CpuIsa, DetectsTheSameEachTime) {
  EXPECT_EQ(detect_cpu_isa(), detect_cpu_isa());
}

TEST(Processors, AreAtLeastOne) {
  EXPECT_GE(available_processors(), 1);
}

}  // namespace
}  // namespace pleiad::device
