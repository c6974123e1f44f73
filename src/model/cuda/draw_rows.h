#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/draw_tokens.h"
#include "model/draw.h"

namespace pleiad::model::cuda {

// Draws of a step: their rules on the way to the GPU, what came of them on the way back. Addresses
// stay, so that a recorded step reads them anew.
class DrawRows {
 public:
  static Result<DrawRows> create(std::int64_t rows_max, std::int64_t vocabulary);

  // Copies the rules of `draws`, none for rows behind them up to `rows`. The last step's work must
  // be done.
  void upload(device::cuda::Stream& stream, std::span<const Draw> draws, std::int64_t rows);
  // Enqueues the draws of `rows` rows of logits.
  void run(device::cuda::Stream& stream, const float* logits, std::int64_t rows) const;
  // Copies back what came of `rows` draws; valid once the stream was waited for.
  void download(device::cuda::Stream& stream, std::int64_t rows);
  [[nodiscard]] Drawn drawn(std::int64_t row) const;

 private:
  explicit DrawRows(std::int64_t vocabulary) : vocabulary_(vocabulary) {}

  std::int64_t vocabulary_;
  device::cuda::PinnedBuffer host_rules_;  // [rows_max] DrawRule
  device::cuda::DeviceBuffer rules_;
  device::cuda::PinnedBuffer host_drawn_;  // [rows_max] DrawnToken
  device::cuda::DeviceBuffer drawn_;
  device::cuda::DeviceBuffer scratch_;
};

}  // namespace pleiad::model::cuda
