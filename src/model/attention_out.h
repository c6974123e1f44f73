#pragma once

#include <cstdint>

#include "base/result.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "kernels/packed_matrix.h"
#include "model/attention_step.h"
#include "model/tensor_exchange.h"

namespace pleiad::model {

// The last product of an attention layer, whatever its kind.
struct AttentionOut {
  const float* values = nullptr;  // [rows, heads of this part, head], dense, rounded activations
  std::int64_t head = 0;          // elements of a head's value
  std::int64_t heads = 0;         // of all parts
  const kernels::PackedMatrix* out = nullptr;  // [part of hidden, heads * head]
  const float* bias = nullptr;                 // [part of hidden], or null
  float* delta = nullptr;                      // scratch, [rows, part of hidden]
  std::int64_t hidden = 0;
};

// step.residual += out * values of all parts + bias. Fails when a tensor part does.
Result<void> project_out(
    const kernels::Context& context,
    device::Scratch& memory,
    TensorExchange& tensor,
    const AttentionOut& last,
    const AttentionStep& step
);

}  // namespace pleiad::model
