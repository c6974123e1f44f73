#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/packed_matrix.h"
#include "model/load_phases.h"
#include "model/weight_loader.h"
#include "weights/checkpoint.h"

namespace pleiad::model::cuda {

using kernels::cuda::DeviceMatrix;

// Numbers on their way from a checkpoint to GPU memory: a matrix, some of its outputs, or plain
// bytes.
struct WeightUpload {
  const kernels::PackedMatrix* source = nullptr;  // planned; null: `bytes`
  std::span<const std::byte> bytes;
  // Where the matrix goes row by row; of one for the grouped product its memory is the uploader's
  // own work space. Of plain bytes only `codes`.
  DeviceMatrix matrix;
  std::int64_t first_output = 0;  // a multiple of a panel's outputs
  std::int64_t outputs = 0;
  // For the grouped product: where the packed form goes, with one scale per block of FP8 weights.
  std::byte* packed = nullptr;
  float* block_scales = nullptr;
  kernels::cuda::GroupedLayout layout = kernels::cuda::GroupedLayout::Plain;
};

// Cuts uploads into parts that several readers can share. Those for the grouped product stay whole.
// Pure.
std::vector<WeightUpload> cut_uploads(std::vector<WeightUpload> uploads, std::size_t part_bytes);

// The part of `sources` that makes the outputs [first, first + count) of their matrix. Pure.
std::vector<kernels::MatrixSource>
cut_sources(std::span<const kernels::MatrixSource> sources, std::int64_t first, std::int64_t count);

// Whether a source's stored bytes are the matrix's rows as `layout` wants them, so that they can be
// copied as they are. Pure.
bool rows_are_stored(const kernels::MatrixSource& source, const kernels::PanelLayout& layout);

struct UploadOptions {
  int gpu = 0;
  int readers = 8;
  std::function<void(std::size_t done, std::size_t total)> progress;  // on the calling thread
};

// Brings all of them to the GPU: several threads, each reading a part from the file into one of its
// two pinned buffers while the other is being copied. Matrices that are stored as the GPU wants
// them are only copied; others are packed by the reader first. A checkpoint that is made up is not
// read where the GPU can make noise itself. Blocks until all is there; holds readers x 2 x 16 MiB
// of host memory. Fails with what a reader met first.
Result<LoadPhases> upload(
    const std::vector<WeightUpload>& uploads,
    const std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin>& origins,
    const weights::Checkpoint& checkpoint,
    const UploadOptions& options
);

}  // namespace pleiad::model::cuda
