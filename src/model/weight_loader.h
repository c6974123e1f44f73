#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/buffer.h"
#include "device/thread_pool.h"
#include "kernels/packed_matrix.h"
#include "weights/checkpoint.h"

namespace pleiad::model {

// A matrix to pack: tensors of the checkpoint stacked along outputs. Rows and columns are those of
// the tensor as it is stored, also when its block is used transposed.
struct MatrixPart {
  std::string name;
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

// Collects what a model wants from a checkpoint, checks names and shapes as it goes, then packs
// everything into one buffer with all workers. Destinations must stay where they are until load()
// returns.
class WeightLoader {
 public:
  WeightLoader(const weights::Checkpoint& checkpoint, kernels::Compute compute)
      : checkpoint_(checkpoint), compute_(compute) {}

  void matrix(const std::vector<MatrixPart>& parts, kernels::PackedMatrix& out) {
    matrix(parts, compute_, out);
  }
  void matrix(
      const std::vector<MatrixPart>& parts,
      kernels::Compute compute,
      kernels::PackedMatrix& out
  );
  // A vector [size] as floats.
  void vector(const std::string& name, std::int64_t size, std::vector<float>& out);

  // Bytes that load() will take.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  // The first missing tensor, wrong shape or wrong dtype met so far.
  [[nodiscard]] Result<void> result() const;

  // Packs everything; the buffer holds what the matrices refer to. Fails with what result() says,
  // or Exhausted when more than `bytes_max` would be needed or memory is short.
  Result<device::Buffer> load(
      device::ThreadPool& pool,
      std::size_t bytes_max,
      const std::function<void(std::size_t done, std::size_t total)>& progress
  );

 private:
  // The tensor of `part`, when it has the shape and a dtype that the part wants.
  [[nodiscard]] Result<device::TensorView> tensor_of(const MatrixPart& part) const;

  struct Job {
    std::vector<kernels::MatrixSource> sources;
    kernels::Compute compute;
    std::size_t offset;
    std::size_t bytes;
    kernels::PackedMatrix* out;
  };

  const weights::Checkpoint& checkpoint_;
  kernels::Compute compute_;
  std::vector<Job> jobs_;
  std::size_t bytes_ = 0;
  std::vector<Error> errors_;
};

}  // namespace pleiad::model
