#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "kernels/packed_matrix.h"
#include "model/quantization_config.h"
#include "weights/checkpoint.h"

namespace pleiad::model {

// A block of a checkpoint's weight matrix. Rows and columns are those of the tensor as it is
// stored, also when its block is used transposed; of a quantised tensor those of the weights it
// stands for.
struct MatrixPart {
  std::string name;       // of the tensor, were it not quantised
  std::int64_t rows = 0;  // shape the tensor must have
  std::int64_t columns = 0;
  std::int64_t index = -1;     // which matrix of a tensor [stacked, rows, columns]; -1: the tensor
                               // is [rows, columns]
  std::int64_t stacked = -1;   // matrices that tensor must hold; -1: more than `index`
  std::int64_t row_begin = 0;  // block of the tensor; row_count -1: to the end
  std::int64_t row_count = -1;
  std::int64_t row_step = 1;  // take every row_step-th row from row_begin on
  std::int64_t column_begin = 0;
  std::int64_t column_count = -1;  // likewise
  std::int64_t column_step = 1;
  bool transposed = false;
};

// Finds how the part is stored, by names and dtypes:
//   NAME F32, BF16, F16                                       Plain
//   NAME F8_E4M3, NAME_scale_inv                              Fp8Block
//   NAME I8, NAME_scale, NAME_offset (where it is: zeros)     Int8Channel
//   NAME_packed I32, NAME_scale, NAME_shape (where it is)     Int4Group32
//   NAME_blocks U8, NAME_scales                               MxFp4
// MxFp4 blocks run along inputs: for a part that names a transposed tensor ([inputs, outputs], as
// the unquantised checkpoint stores it) they already hold the transpose, and rows and columns of
// the part change places.
//
// Fails naming the tensor: missing, another shape or dtype than the format's, or a format that
// `config` does not name. The source refers to one matrix; its index is never set.
Result<kernels::MatrixSource> stored_matrix(
    const weights::Checkpoint& checkpoint,
    const QuantizationConfig& config,
    const MatrixPart& part
);

}  // namespace pleiad::model
