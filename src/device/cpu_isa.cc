#include "device/cpu_isa.h"

#include <array>
#include <utility>

#include <sched.h>

namespace pleiad::device {
namespace {

constexpr std::array<std::pair<CpuIsa, std::string_view>, 4> kNames = {{
    {CpuIsa::Portable, "portable"},
    {CpuIsa::Avx2, "avx2"},
    {CpuIsa::Avx512, "avx512"},
    {CpuIsa::Avx512Bf16, "avx512_bf16"},
}};

}  // namespace

CpuIsa detect_cpu_isa() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2) return CpuIsa::Portable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return CpuIsa::Avx2;
  const bool dots = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  return dots ? CpuIsa::Avx512Bf16 : CpuIsa::Avx512;
#else
  return CpuIsa::Portable;
#endif
}

std::string_view to_string(CpuIsa isa) {
  return kNames[static_cast<std::size_t>(isa)].second;
}

std::optional<CpuIsa> parse_cpu_isa(std::string_view name) {
  for (const auto& [isa, isa_name] : kNames) {
    if (isa_name == name) return isa;
  }
  return std::nullopt;
}

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? count : 1;
}

}  // namespace pleiad::device
