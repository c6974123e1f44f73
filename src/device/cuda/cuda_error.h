#pragma once

#include <string_view>

#include <driver_types.h>

#include "base/result.h"

namespace pleiad::device::cuda {

// `status` as a Result. `doing` says what was under way, as an op with its shapes: "rms_norm [512,
// 2048]". Out of memory becomes Exhausted, no driver or device NotFound, a driver older than the
// program's CUDA or a GPU without its machine code Unsupported, everything else Internal.
Result<void> checked(cudaError_t status, std::string_view doing);

// The same where the driver's version (cudaDriverGetVersion, 0: no driver) is known. Pure.
// REQUIRES: a status that is no success.
Error describe_error(cudaError_t status, int driver, std::string_view doing);

}  // namespace pleiad::device::cuda
