#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/weights/files.h"
#include "weights/checkpoint.h"

// A checkpoint of a few tensors, written by the test that reads it.
namespace pleiad::model::testing {

struct NamedTensor {
  std::string name;
  std::string_view dtype;  // as safetensors calls it
  std::vector<std::int64_t> shape;
  std::string bytes;
};

template <typename T>
NamedTensor named_tensor(
    std::string name,
    std::string_view dtype,
    std::vector<std::int64_t> shape,
    std::span<const T> values
) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return {std::move(name), dtype, std::move(shape), std::move(bytes)};
}

// Every tensor of a checkpoint.
inline std::vector<NamedTensor> read_tensors(const weights::Checkpoint& checkpoint) {
  std::vector<NamedTensor> out;
  for (const std::string& name : checkpoint.names()) {
    const auto view = checkpoint.tensor(name).value();
    const auto* bytes = reinterpret_cast<const char*>(view.bytes.data());
    const auto extents = std::span(view.shape.extents).first(view.shape.rank);
    out.push_back(
        {name,
         device::to_string(view.dtype),
         {extents.begin(), extents.end()},
         std::string(bytes, view.bytes.size())}
    );
  }
  return out;
}

// The folder's only file of weights holds `tensors` in their order.
inline void
write_tensors(const weights::testing::Folder& folder, std::span<const NamedTensor> tensors) {
  std::string header;
  std::string bytes;
  for (const NamedTensor& tensor : tensors) {
    header += fmt::format(
        R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
        header.empty() ? "{" : ",",
        tensor.name,
        tensor.dtype,
        fmt::join(tensor.shape, ","),
        bytes.size(),
        bytes.size() + tensor.bytes.size()
    );
    bytes += tensor.bytes;
  }
  header += "}";
  folder.write("model.safetensors", weights::testing::safetensors_bytes(header, 0) + bytes);
}

inline std::unique_ptr<weights::Checkpoint>
open_tensors(const weights::testing::Folder& folder, std::span<const NamedTensor> tensors) {
  write_tensors(folder, tensors);
  return weights::Checkpoint::open(folder.path()).value();
}

}  // namespace pleiad::model::testing
