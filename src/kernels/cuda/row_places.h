#pragma once

#include <cstdint>

namespace pleiad::kernels::cuda {

// Where a step's rows stand: all in GPU memory, so that a recorded step reads them anew.
struct RowPlaces {
  const std::int32_t* positions = nullptr;  // [rows]; a row with a negative one is left out
  const std::int32_t* table_of = nullptr;  // [rows]: where each row's page table begins in `tables`
  const std::uint32_t* tables = nullptr;   // page indices of one sequence after the other
};

}  // namespace pleiad::kernels::cuda
