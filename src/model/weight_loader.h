#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "device/buffer.h"
#include "device/thread_pool.h"
#include "kernels/packed_matrix.h"
#include "model/quantization_config.h"
#include "model/stored_matrix.h"
#include "weights/checkpoint.h"

namespace pleiad::model {

// A tensor that a model reads, as it is without quantisation.
struct TensorWish {
  std::string name;
  device::Shape shape;
  bool codable = false;  // whether it may be stored in fewer bits
  bool is_matrix = false;
  std::int64_t inputs = 0;  // of a matrix: its rows or columns
};

// What a matrix is packed from.
struct MatrixOrigin {
  std::string names;  // of the parts, for errors
  std::vector<kernels::MatrixSource> sources;
};

// Collects what a model wants from a checkpoint, checks names, shapes and scales as it goes, then
// packs everything into one buffer with all workers. Destinations must stay where they are until
// load() returns.
class WeightLoader {
 public:
  // `quantization`: what the checkpoint's config says. Its format must be that of every quantised
  // tensor; Plain, where nothing is said, allows any, with FP8 blocks of 128 x 128.
  WeightLoader(
      const weights::Checkpoint& checkpoint,
      kernels::Compute compute,
      const QuantizationConfig& quantization = {}
  )
      : checkpoint_(checkpoint), compute_(compute), quantization_(quantization) {}

  // One that keeps the names of what it is asked for and looks nothing up. It can load nothing.
  struct NamesOnly {};
  WeightLoader(const weights::Checkpoint& checkpoint, NamesOnly /*only*/)
      : checkpoint_(checkpoint), compute_(kernels::Compute::Float32), names_only_(true) {}

  // A matrix to pack: parts stacked along outputs. Quantised parts stay in the format they are
  // stored in (stored_matrix.h); all parts of a matrix must have one format.
  void matrix(const std::vector<MatrixPart>& parts, kernels::PackedMatrix& out) {
    add(parts, compute_, Formats::Any, out);
  }
  // The same for a matrix that wants its own arithmetic, as a gate does: quantised parts are
  // refused.
  void matrix(
      const std::vector<MatrixPart>& parts,
      kernels::Compute compute,
      kernels::PackedMatrix& out
  ) {
    add(parts, compute, Formats::Plain, out);
  }
  // A vector [size] as floats.
  void vector(const std::string& name, std::int64_t size, std::vector<float>& out);
  // A table [rows, columns] as floats, row by row.
  void
  table(const std::string& name, std::int64_t rows, std::int64_t columns, std::vector<float>& out);

  // Of one that keeps names: what was asked for so far, in order.
  [[nodiscard]] const std::vector<TensorWish>& wishes() const { return wishes_; }
  // Bytes that load() will take.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  // The first missing tensor, wrong shape, dtype or scale met so far.
  [[nodiscard]] Result<void> result() const;

  // Gives every matrix its shape and format but no numbers, for those who bring the numbers
  // elsewhere by themselves, and tells what each is packed from. Fails with what result() says.
  Result<std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin>> plan();

  // Packs everything; the buffer holds what the matrices refer to. Fails with what result() says,
  // with Exhausted when more than `bytes_max` would be needed or memory is short, or naming the
  // tensor and the place of an FP8 weight that is NaN.
  Result<device::Buffer> load(
      device::ThreadPool& pool,
      std::size_t bytes_max,
      const std::function<void(std::size_t done, std::size_t total)>& progress
  );

 private:
  enum class Formats { Any, Plain };

  void floats(const std::string& name, const device::Shape& shape, std::vector<float>& out);

  struct Job {
    std::string names;  // of the parts, for errors
    std::vector<kernels::MatrixSource> sources;
    kernels::Compute compute = kernels::Compute::Float32;
    std::size_t offset = 0;
    std::size_t bytes = 0;
    kernels::PackedMatrix* out = nullptr;
  };

  void add(
      const std::vector<MatrixPart>& parts,
      kernels::Compute compute,
      Formats formats,
      kernels::PackedMatrix& out
  );
  // The parts' sources and the bytes they take, but for where they go.
  [[nodiscard]] Result<Job>
  job_of(const std::vector<MatrixPart>& parts, kernels::Compute compute, Formats formats) const;

  const weights::Checkpoint& checkpoint_;
  kernels::Compute compute_;
  QuantizationConfig quantization_;
  bool names_only_ = false;
  std::vector<TensorWish> wishes_;
  std::vector<Job> jobs_;
  std::size_t bytes_ = 0;
  std::vector<Error> errors_;
};

}  // namespace pleiad::model
