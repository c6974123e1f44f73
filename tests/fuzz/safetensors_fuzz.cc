#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "weights/safetensors.h"

// Whatever is accepted must tile the data section exactly, so that every view lies in the file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto header =
      pleiad::weights::parse_safetensors_header(std::as_bytes(std::span(bytes, size)), size);
  if (!header.ok()) return 0;
  std::uint64_t covered = 0;
  for (const auto& tensor : header->tensors) {
    const auto elements = static_cast<std::uint64_t>(tensor.shape.elements());
    const std::uint64_t expected = elements * pleiad::device::size_of(tensor.dtype);
    if (tensor.begin != covered || tensor.end - tensor.begin != expected) std::abort();
    covered = tensor.end;
  }
  if (header->data_offset + covered != size) std::abort();
  return 0;
}
