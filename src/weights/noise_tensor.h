#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "device/tensor_view.h"
#include "weights/repeated_memory.h"

namespace pleiad::weights {

// A tensor of made up numbers: mean plus deviation times normal-looking noise, rounded to its
// dtype. The types of packed codes (U8, I32) take noise as any bits at all, where the deviation is
// not zero. A scale of U8 or F8_E8M0 stands for 2^(code - 127), as which its mean is read.
struct NoiseTensor {
  std::string name;
  device::DType dtype = device::DType::F32;
  device::Shape shape;
  float mean = 0.0F;
  float deviation = 0.0F;
};

// The bytes of all of them, in the same order; the memory they refer to is added to `memory`. The
// same tensors get the same bytes. Fails as Checkpoint::made_up says.
Result<std::vector<device::TensorView>>
make_noise(const std::vector<NoiseTensor>& tensors, std::vector<RepeatedMemory>& memory);

}  // namespace pleiad::weights
