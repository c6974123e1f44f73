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
  // Of a shared MLP's matrix that becomes several experts: which of them, and how many.
  std::int64_t piece = 0;
  std::int64_t pieces = 1;
};

// Cuts uploads into parts that several readers can share. Those for the grouped product stay whole.
// Pure.
std::vector<WeightUpload> cut_uploads(std::vector<WeightUpload> uploads, std::size_t part_bytes);

// The part of `sources` that makes the outputs [first, first + count) of their matrix. Pure.
std::vector<kernels::MatrixSource>
cut_sources(std::span<const kernels::MatrixSource> sources, std::int64_t first, std::int64_t count);

// How the upload's rows lie: those of its source, or of a piece of it, in the type of the matrix
// they go to. Pure.
kernels::PanelLayout layout_of(const WeightUpload& upload);

// The sources of one expert of the `pieces` that a shared MLP's `matrix` is cut into: of gate and
// up together (Gated) a share of both halves' outputs, else a share of the inputs. Pure.
std::vector<kernels::MatrixSource>
sources_of_piece(std::span<const kernels::MatrixSource> sources, const WeightUpload& upload);

// Whether a source's stored bytes are the matrix's rows as `layout` wants them, so that they can be
// copied as they are. Pure.
bool rows_are_stored(const kernels::MatrixSource& source, const kernels::PanelLayout& layout);

// Stored rows of such a source.
std::int64_t stored_row_count(const kernels::MatrixSource& source);

struct UploadOptions {
  int gpu = 0;
  int readers = 16;
  std::function<void(std::size_t done, std::size_t total)> progress;  // on the calling thread
};

// Brings all of them to the GPU: several threads, each reading a part from the file into one of its
// two pinned buffers while the other is being copied. Matrices that are stored as the GPU wants
// them are only copied; others are packed by the reader first. A checkpoint that is made up is not
// read where the GPU can make noise itself. Blocks until all is there; holds readers x 2 x 8 MiB
// of host memory. Fails with what a reader met first.
Result<LoadPhases> upload(
    const std::vector<WeightUpload>& uploads,
    const std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin>& origins,
    const weights::Checkpoint& checkpoint,
    const UploadOptions& options
);

}  // namespace pleiad::model::cuda
