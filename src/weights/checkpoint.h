#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "device/tensor_view.h"

namespace pleiad::weights {

// The weights of a Hugging Face folder: model.safetensors, or the shards named by
// model.safetensors.index.json, mapped read-only and validated before any tensor is handed out.
// Views live as long as the Checkpoint. Const members may be called from any thread.
//
// A file that shrinks while it is mapped would end the process when read; open() takes the size it
// validated, and the folder must not change while it is served.
class Checkpoint {
 public:
  // Fails naming the file and what is wrong: NotFound (no weights, index names a missing file,
  // index names a tensor its shard lacks), Corrupt (see safetensors.h; a tensor in two shards),
  // InvalidInput (malformed index, names that leave the folder). Reads headers only.
  static Result<std::unique_ptr<Checkpoint>> open(const std::filesystem::path& folder);

  virtual ~Checkpoint() = default;

  [[nodiscard]] virtual bool contains(std::string_view name) const = 0;
  // Fails with NotFound when there is no such tensor, naming it.
  [[nodiscard]] virtual Result<device::TensorView> tensor(std::string_view name) const = 0;
  // The same, and fails with Corrupt when the shape is another: names both shapes.
  [[nodiscard]] virtual Result<device::TensorView>
  tensor(std::string_view name, const device::Shape& shape) const = 0;
  // Every tensor's name, ascending.
  [[nodiscard]] virtual std::vector<std::string> names() const = 0;
  [[nodiscard]] virtual std::uint64_t total_bytes() const = 0;
  // Tells the kernel that `view` will be read soon / is no longer needed in the page cache mapping.
  virtual void prefetch(const device::TensorView& view) const = 0;
  virtual void release(const device::TensorView& view) const = 0;
};

}  // namespace pleiad::weights
