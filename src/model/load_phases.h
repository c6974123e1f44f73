#pragma once

#include <cstddef>

namespace pleiad::model {

// What loading weights took, in seconds of the clock: reading and packing overlap with copying, so
// that parts add up to more than the whole where several readers work.
struct LoadPhases {
  std::size_t bytes = 0;        // that were brought to where they are computed with
  int readers = 0;              // threads; 0: the phases below were not told apart
  double total_seconds = 0.0;   // all of it
  double read_seconds = 0.0;    // of a reader on average: bytes from files
  double pack_seconds = 0.0;    // likewise: bringing them into the form that is computed with
  double waited_seconds = 0.0;  // likewise: for copies to the GPU
};

}  // namespace pleiad::model
