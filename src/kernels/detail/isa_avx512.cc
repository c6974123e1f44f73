#if defined(__x86_64__)

#include "kernels/detail/isa_table.h"
#include "kernels/detail/lanes_avx512.h"

namespace pleiad::kernels::detail {
namespace {

constexpr IsaKernels kTable = table_of<Avx512>(panel_product<Avx512, PairTiles<Avx512>>);

}  // namespace

const IsaKernels& avx512_kernels() {
  return kTable;
}

}  // namespace pleiad::kernels::detail

#endif
