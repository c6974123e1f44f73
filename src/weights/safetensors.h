#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "device/tensor_view.h"

namespace pleiad::weights {

// Limits on what a safetensors header may claim; broken ones are refused before anything is
// allocated.
struct SafetensorsLimits {
  std::uint64_t header_bytes_max = 100'000'000;
  std::size_t tensors_max = 1'000'000;
};

// One tensor of a file: where its bytes lie after the header.
struct TensorEntry {
  std::string name;
  device::DType dtype = device::DType::F32;
  device::Shape shape;
  std::uint64_t begin = 0;  // byte offset from the start of the data section
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in order of their bytes
  std::uint64_t data_offset = 0;     // where the data section starts in the file
};

// Reads the header at the start of `file_head` for a file of `file_bytes` bytes. Fails with Corrupt
// when lengths, dtypes, shapes or offsets contradict each other or the file: dtype x shape must
// equal the span, spans may not overlap, leave gaps or reach past the end, names may not repeat.
// Pure.
Result<SafetensorsHeader> parse_safetensors_header(
    std::span<const std::byte> file_head,
    std::uint64_t file_bytes,
    const SafetensorsLimits& limits = {}
);

}  // namespace pleiad::weights
