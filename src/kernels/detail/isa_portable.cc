#include "kernels/detail/isa_table.h"
#include "kernels/detail/lanes_portable.h"

namespace pleiad::kernels::detail {
namespace {

constexpr IsaKernels kTable = table_of<Portable>(panel_product<Portable, PairTiles<Portable>>);

}  // namespace

const IsaKernels& portable_kernels() {
  return kTable;
}

}  // namespace pleiad::kernels::detail
