#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "model/cuda/weight_upload.h"

namespace pleiad::model::cuda {

// One thread's part of upload(): a stream, two pinned buffers that take turns, and work space on
// the GPU. Used by the thread that made it.
class WeightReader {
 public:
  static constexpr std::size_t kBufferBytes = std::size_t{16} << 20U;

  // `unpacked_bytes`: of the largest matrix for the grouped product.
  static Result<WeightReader>
  create(int gpu, std::size_t unpacked_bytes, const weights::Checkpoint& checkpoint);

  // Enqueues one; waits only where its buffers are still being copied. `origin`: of its source;
  // null for plain bytes. `seed`: of noise.
  Result<void> run(const WeightUpload& upload, const MatrixOrigin* origin, std::uint64_t seed);
  // Waits for all that was enqueued.
  Result<void> finish();

  // What run() took so far.
  [[nodiscard]] const LoadPhases& phases() const { return phases_; }

 private:
  // A pinned buffer, and when the copies from it end.
  struct Buffer {
    device::cuda::PinnedBuffer memory;
    std::optional<device::cuda::Event> copied;
    bool in_use = false;
  };

  WeightReader(
      device::cuda::Stream stream,
      std::array<Buffer, 2> buffers,
      device::cuda::DeviceBuffer unpacked,
      const weights::Checkpoint& checkpoint
  )
      : stream_(std::move(stream)),
        buffers_(std::move(buffers)),
        unpacked_(std::move(unpacked)),
        checkpoint_(&checkpoint) {}

  // The buffer whose turn it is, when the GPU has read what it held.
  Result<Buffer*> next_buffer();
  // Ends the turn: the GPU has been told to read it.
  Result<void> sent(Buffer& buffer);
  Result<void> copy_bytes(const WeightUpload& upload);
  Result<void> make_rows(
      const WeightUpload& upload,
      const MatrixOrigin& origin,
      const DeviceMatrix& rows,
      std::uint64_t seed
  );
  Result<void> copy_rows(
      std::span<const kernels::MatrixSource> sources,
      const DeviceMatrix& rows,
      std::int64_t first,
      bool with_scales
  );
  Result<void> copy_panels(
      std::span<const kernels::MatrixSource> sources,
      const DeviceMatrix& rows,
      std::int64_t first
  );
  Result<void> copy_block_scales(const WeightUpload& upload, const MatrixOrigin& origin);
  Result<void> read(std::span<const std::byte> from, std::span<std::byte> to);

  device::cuda::Stream stream_;
  std::array<Buffer, 2> buffers_;
  std::size_t turn_ = 0;
  device::cuda::DeviceBuffer unpacked_;  // rows of a matrix for the grouped product
  device::cuda::DeviceBuffer panels_;    // packed by this thread, on their way to rows
  const weights::Checkpoint* checkpoint_;
  SystemClock clock_;
  LoadPhases phases_;
};

}  // namespace pleiad::model::cuda
