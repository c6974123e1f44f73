#if defined(__x86_64__)

#include "kernels/detail/dot_product.h"
#include "kernels/detail/isa_table.h"

namespace pleiad::kernels::detail {
namespace {

constexpr IsaKernels kTable = table_of<Avx512>(dot_product);

}  // namespace

const IsaKernels& avx512_bf16_kernels() {
  return kTable;
}

}  // namespace pleiad::kernels::detail

#endif
