#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/paged_attention.h"
#include "model/model.h"

namespace pleiad::model::cuda {

// The rows that a step runs with so that it can be one of few recorded ones: the next power of two
// up to `recorded_rows_max`, 0 for more. Pure.
std::int64_t recorded_rows(std::int64_t rows, std::int64_t recorded_rows_max);

// What a step's kernels read of its batch, in pinned memory and in the GPU's: tokens, positions,
// page tables, rows whose logits are wanted. Addresses stay, so that a recorded step reads them
// anew. Rows past the batch's have position -1 and token 0.
class StepRows {
 public:
  struct Limits {
    std::int64_t rows_max = 0;
    std::int64_t logit_rows_max = 0;
    std::int64_t context_max = 0;
  };
  static Result<StepRows> create(const Limits& limits);

  // Copies `batch`, filled up to `rows` rows and `logit_rows` rows of logits, to the GPU. The last
  // step's work must be done.
  void upload(
      device::cuda::Stream& stream,
      const Batch& batch,
      std::int64_t rows,
      std::int64_t logit_rows
  );

  // In GPU memory:
  [[nodiscard]] const std::int32_t* tokens() const { return at(0); }
  [[nodiscard]] const std::int32_t* logit_rows() const { return at(3 * limits_.rows_max); }
  [[nodiscard]] kernels::cuda::RowPlaces places() const;

 private:
  explicit StepRows(const Limits& limits) : limits_(limits) {}
  [[nodiscard]] const std::int32_t* at(std::int64_t word) const {
    return device_.as<const std::int32_t>() + word;
  }
  [[nodiscard]] std::int64_t tables_begin() const {
    return 3 * limits_.rows_max + limits_.logit_rows_max;
  }
  std::size_t put_tables(std::span<const AttentionRow> rows, std::span<std::int32_t> words) const;

  Limits limits_;
  // Words: tokens, positions and table places [rows_max] each, logit rows [logit_rows_max], tables.
  device::cuda::PinnedBuffer host_;
  device::cuda::DeviceBuffer device_;
};

}  // namespace pleiad::model::cuda
