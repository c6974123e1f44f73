#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "device/tensor_view.h"
#include "weights/mapped_file.h"
#include "weights/noise_tensor.h"
#include "weights/repeated_memory.h"

namespace pleiad::weights {

// The weights of a Hugging Face folder: model.safetensors, or the shards named by
// model.safetensors.index.json, mapped read-only and validated before any tensor is handed out.
// Where neither is there, the one quant_model_weight*.safetensors or index of such that Ascend's
// tools write.
// Views live as long as the Checkpoint. Const members may be called from any thread.
//
// A file that shrinks while it is mapped would end the process when read; open() takes the size it
// validated, and the folder must not change while it is served. Tensors need not be aligned to
// their element size in a file: read them with memcpy, or pack them.
class Checkpoint final {
 public:
  // Fails naming the file and what is wrong: NotFound (no weights, index names a missing file,
  // index names a tensor its shard lacks), Corrupt (see safetensors.h; a tensor in two shards),
  // InvalidInput (malformed index, names that leave the folder), Unsupported (a dtype or rank we do
  // not read). Reads headers only.
  static Result<std::unique_ptr<Checkpoint>> open(const std::filesystem::path& folder);

  // Tensors whose numbers are made up (noise_tensor.h), for trials without weights. The memory
  // they take does not grow with them: they are views of the same few megabytes, over and over.
  // Fails with InvalidInput for a dtype that cannot be made up, Internal when the system refuses
  // memory. REQUIRES: names differ.
  static Result<std::unique_ptr<Checkpoint>> made_up(const std::vector<NoiseTensor>& tensors);

  // No tensors.
  Checkpoint() = default;
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;
  ~Checkpoint() = default;

  [[nodiscard]] bool contains(std::string_view name) const;
  // Fails with NotFound when there is no such tensor, naming it.
  [[nodiscard]] Result<device::TensorView> tensor(std::string_view name) const;
  // The same, and fails with Corrupt when the shape is another: names both shapes.
  [[nodiscard]] Result<device::TensorView> tensor(std::string_view name, const device::Shape& shape)
      const;
  // Every tensor's name, ascending.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] std::uint64_t total_bytes() const;
  // Whether the numbers are made up.
  [[nodiscard]] bool is_made_up() const { return !noise_.empty(); }
  // Reads `part` of a tensor's view into `out` from its file, not through the mapping: large parts
  // come at the speed of the disk or the page cache. Fails like MappedFile::read, naming the file.
  Result<void> read(std::span<const std::byte> part, std::span<std::byte> out) const;
  // Tells the kernel that `view` will be read soon / is no longer needed in the page cache mapping.
  void prefetch(const device::TensorView& view) const { advise_needed(view.bytes); }
  void release(const device::TensorView& view) const { advise_unneeded(view.bytes); }

 private:
  struct Tensor {
    std::string name;
    device::TensorView view;
    std::size_t file = 0;  // index into files_
  };

  // Adds every shard that an index names, and checks that they hold what it says.
  Result<void> add_shards(const std::filesystem::path& folder, const std::string& index_file);
  // Maps and validates one file and adds its tensors.
  Result<void> add_file(const std::filesystem::path& folder, const std::string& name);
  // Sorts tensors by name. Fails with Corrupt when two files hold one name.
  Result<void> sort_tensors();
  [[nodiscard]] const Tensor* find(std::string_view name) const;

  std::vector<RepeatedMemory> noise_;  // of made up tensors
  std::vector<MappedFile> files_;
  std::vector<std::string> file_names_;
  std::vector<Tensor> tensors_;  // by name, ascending
};

}  // namespace pleiad::weights
