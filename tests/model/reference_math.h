#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "weights/checkpoint.h"

namespace pleiad::model::reference {

using Row = std::vector<double>;
using Rows = std::vector<Row>;  // one per token

struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> values;  // row-major; empty when there is no such tensor

  // Matrix number `index` of a tensor of three axes.
  [[nodiscard]] Tensor slice(std::size_t index) const;
};

// The tensors of a model folder in F32, BF16, F16, FP8 with a scale per block of 128 x 128, or
// MXFP4, widened.
class Tensors {
 public:
  // Ends the test program when the folder cannot be read.
  explicit Tensors(const std::filesystem::path& folder);

  // Ends the test program when there is no such tensor. MXFP4 experts come as GPT-OSS stores
  // unquantised ones: [experts, in, out].
  [[nodiscard]] Tensor get(const std::string& name) const;
  [[nodiscard]] Tensor get_if(bool wanted, const std::string& name) const {
    return wanted ? get(name) : Tensor{};
  }

 private:
  [[nodiscard]] Tensor read(const std::string& name) const;
  [[nodiscard]] Tensor read_mxfp4(const std::string& name) const;

  std::unique_ptr<weights::Checkpoint> checkpoint_;
};

// x W^T + bias, W [out, in] as checkpoints store it; `bias` may be empty.
Row linear(const Row& x, const Tensor& weight, const Tensor& bias = {});
// x W + bias, W [in, out].
Row linear_transposed(const Row& x, const Tensor& weight, const Row& bias);
// x / sqrt(mean(x^2) + eps) * gain.
Row rms_norm(const Row& x, const Tensor& gain, double eps);
double sigmoid(double x);
// e^x / sum e^x, `sink` counting in the sum when there is one.
Row softmax(const Row& x, const double* sink = nullptr);
void add_scaled(Row& sum, const Row& x, double scale);

}  // namespace pleiad::model::reference
