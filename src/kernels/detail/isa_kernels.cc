#include "kernels/detail/isa_kernels.h"

namespace pleiad::kernels::detail {

const IsaKernels& kernels_of(device::CpuIsa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case device::CpuIsa::Portable:
      break;
    case device::CpuIsa::Avx2:
      return avx2_kernels();
    case device::CpuIsa::Avx512:
      return avx512_kernels();
    case device::CpuIsa::Avx512Bf16:
      return avx512_bf16_kernels();
  }
#else
  static_cast<void>(isa);
#endif
  return portable_kernels();
}

}  // namespace pleiad::kernels::detail
