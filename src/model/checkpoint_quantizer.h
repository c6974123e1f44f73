#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "base/result.h"
#include "device/thread_pool.h"
#include "weights/quantize_matrix.h"

namespace pleiad::model {

struct QuantizeOptions {
  weights::QuantScheme scheme = weights::QuantScheme::Fp8Block;
  std::uint64_t shard_bytes = std::uint64_t{4}
                              << 30U;  // of one file at most, unless one tensor has more
  device::ThreadPool* pool = nullptr;  // rounds
  // Called now and then from the calling thread with bytes read so far and in all; may be empty.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

struct QuantizeReport {
  std::int64_t quantized = 0;  // matrices
  std::int64_t kept = 0;       // tensors that stay as they are
  std::int64_t resumed = 0;    // files that an earlier attempt had finished
  std::uint64_t bytes_before = 0;
  std::uint64_t bytes_after = 0;
};

// Writes the model of folder `from` to folder `to` with its matrices in fewer bits: those of
// attention, dense layers and experts; embeddings, head, gates, norms and biases stay as they are,
// and so does kv_b_proj but for Fp8Block, since it is used transposed. MxFp4 is for families that
// keep all experts of a layer in one tensor, and turns those alone. Holds a few tensors at a time
// in memory. config.json is written last: a folder that has one is whole. An attempt that was cut
// off is taken up where whole files end.
//
// Fails, naming file or key, with InvalidInput when `to` already holds a model or an attempt at
// another one, or a weight is not finite; Unsupported when the model is quantised already, is of no
// known family, or keeps its experts in a way that the scheme has no form for; else as reading and
// writing does.
Result<QuantizeReport> quantize_checkpoint(
    const std::filesystem::path& from,
    const std::filesystem::path& to,
    const QuantizeOptions& options
);

}  // namespace pleiad::model
