#if defined(__x86_64__)

#include "kernels/detail/isa_table.h"
#include "kernels/detail/lanes_avx2.h"

namespace pleiad::kernels::detail {
namespace {

constexpr IsaKernels kTable = table_of<Avx2>(panel_product<Avx2, PairTiles<Avx2>>);

}  // namespace

const IsaKernels& avx2_kernels() {
  return kTable;
}

}  // namespace pleiad::kernels::detail

#endif
