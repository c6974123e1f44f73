#include "kernels/cuda/detail/fast_attention.h"
#include "kernels/cuda/detail/grouped_attention.cuh"

namespace pleiad::kernels::cuda::hopper {
namespace {

template <class Shape>
void launch(device::cuda::Stream& stream, const FastAttention& task) {
  launch_attention(
      stream, grouped_attention_kernel<Shape>, task, Shape::kThreads, Shape::kSharedBytes
  );
}

}  // namespace

void grouped_attention(device::cuda::Stream& stream, const FastAttention& task) {
  if (task.width == 64) {
    if (task.groups == 1) return launch<GroupedAttention<64, 1, 6>>(stream, task);
    return launch<GroupedAttention<64, 2, 12>>(stream, task);
  }
  if (task.groups == 1) return launch<GroupedAttention<128, 1, 3>>(stream, task);
  launch<GroupedAttention<128, 2, 6>>(stream, task);
}

}  // namespace pleiad::kernels::cuda::hopper
