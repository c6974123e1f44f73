#pragma once

#include <optional>
#include <string_view>

namespace pleiad::device {

// The instruction sets kernels are written for, worst first. Each includes those before it.
//   Avx2        AVX2, FMA, F16C
//   Avx512      AVX-512 F, BW, DQ, VL
//   Avx512Bf16  Avx512 with dot products of BF16 (vdpbf16ps) and of bytes (vpdpbusd)
enum class CpuIsa { Portable, Avx2, Avx512, Avx512Bf16 };

// The best set this processor and operating system offer.
CpuIsa detect_cpu_isa();

std::string_view to_string(CpuIsa isa);
// "portable", "avx2", "avx512" or "avx512_bf16"; nothing for other names.
std::optional<CpuIsa> parse_cpu_isa(std::string_view name);

// How many processors this process may run on (affinity mask), at least 1.
int available_processors();

}  // namespace pleiad::device
