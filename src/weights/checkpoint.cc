#include "weights/checkpoint.h"

#include <algorithm>
#include <functional>
#include <system_error>

#include <fmt/format.h>

#include "base/check.h"
#include "weights/checkpoint_index.h"
#include "weights/read_file.h"
#include "weights/safetensors.h"

namespace pleiad::weights {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kAscendFile = "quant_model_weight";
constexpr std::size_t kIndexBytesMax = std::size_t{64} << 20U;

bool is_there(const std::filesystem::path& path) {
  std::error_code failure;
  return std::filesystem::exists(path, failure);
}

std::string text_of(const device::Shape& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.rank; ++axis) {
    text += fmt::format("{}{}", axis == 0 ? "" : ", ", shape[axis]);
  }
  return text + "]";
}

// Files of the folder that Ascend's tools would have named: quant_model_weight*ENDING, ascending.
std::vector<std::string>
ascend_files(const std::filesystem::path& folder, std::string_view ending) {
  std::vector<std::string> out;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kAscendFile) && name.ends_with(ending)) out.push_back(name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::filesystem::path& folder) {
  auto checkpoint = std::make_unique<Checkpoint>();
  if (is_there(folder / kSingleFile)) {
    PLEIAD_TRY(checkpoint->add_file(folder, kSingleFile));
    PLEIAD_TRY(checkpoint->sort_tensors());
    return checkpoint;
  }
  if (is_there(folder / kIndexFile)) {
    PLEIAD_TRY(checkpoint->add_shards(folder, kIndexFile));
    return checkpoint;
  }
  const auto indexes = ascend_files(folder, ".safetensors.index.json");
  const auto files = ascend_files(folder, ".safetensors");
  if (indexes.size() == 1) {
    PLEIAD_TRY(checkpoint->add_shards(folder, indexes.front()));
    return checkpoint;
  }
  if (indexes.empty() && files.size() == 1) {
    PLEIAD_TRY(checkpoint->add_file(folder, files.front()));
    PLEIAD_TRY(checkpoint->sort_tensors());
    return checkpoint;
  }
  if (indexes.size() > 1 || files.size() > 1) {
    return invalid_input(
        "{}: which weights are meant? {} files {}*.safetensors, {} indexes of them",
        folder.string(),
        files.size(),
        kAscendFile,
        indexes.size()
    );
  }
  return not_found(
      "{}: neither {} nor {} is there (weights are read from safetensors only)",
      folder.string(),
      kSingleFile,
      kIndexFile
  );
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::made_up(const std::vector<NoiseTensor>& tensors) {
  auto checkpoint = std::make_unique<Checkpoint>();
  PLEIAD_TRY(views, make_noise(tensors, checkpoint->noise_));
  checkpoint->file_names_ = {"noise"};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    checkpoint->tensors_.push_back({.name = tensors[i].name, .view = views[i]});
  }
  PLEIAD_TRY(checkpoint->sort_tensors());
  return checkpoint;
}

Result<void> Checkpoint::read(std::span<const std::byte> part, std::span<std::byte> out) const {
  PLEIAD_CHECK(out.size() == part.size());
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto bytes = files_[i].bytes();
    const bool inside = !std::less<>()(part.data(), bytes.data()) &&
                        std::less<>()(part.data(), bytes.data() + bytes.size());
    if (!inside) continue;
    auto read = files_[i].read(static_cast<std::size_t>(part.data() - bytes.data()), out);
    return read.ok() ? std::move(read) : with_context(std::move(read).error(), file_names_[i]);
  }
  std::ranges::copy(part, out.begin());
  return {};
}

Result<void>
Checkpoint::add_shards(const std::filesystem::path& folder, const std::string& index_file) {
  PLEIAD_TRY(text, read_text_file(folder / index_file, kIndexBytesMax));
  auto index = parse_checkpoint_index(text);
  if (!index.ok()) return with_context(std::move(index).error(), (folder / index_file).string());
  for (const std::string& shard : index->shards) {
    PLEIAD_TRY(add_file(folder, shard));
  }
  PLEIAD_TRY(sort_tensors());
  for (const auto& [name, shard] : index->shard_of) {
    const Tensor* tensor = find(name);
    if (tensor == nullptr || file_names_[tensor->file] != shard) {
      return not_found("{}: has no tensor {}, which the index puts there", shard, name);
    }
  }
  return {};
}

Result<void> Checkpoint::add_file(const std::filesystem::path& folder, const std::string& name) {
  const std::filesystem::path path = folder / name;
  PLEIAD_TRY(file, MappedFile::open(path));
  const auto bytes = file.bytes();
  auto header = parse_safetensors_header(bytes, bytes.size());
  if (!header.ok()) return with_context(std::move(header).error(), path.string());
  const auto data = bytes.subspan(header->data_offset);
  for (TensorEntry& entry : header->tensors) {
    tensors_.push_back(
        {.name = std::move(entry.name),
         .view =
             {.bytes = data.subspan(entry.begin, entry.end - entry.begin),
              .dtype = entry.dtype,
              .shape = entry.shape},
         .file = files_.size()}
    );
  }
  files_.push_back(std::move(file));
  file_names_.push_back(name);
  return {};
}

Result<void> Checkpoint::sort_tensors() {
  std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
    return a.name < b.name;
  });
  const auto twice =
      std::adjacent_find(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
        return a.name == b.name;
      });
  if (twice == tensors_.end()) return {};
  return corrupt(
      "tensor {} is both in {} and in {}",
      twice->name,
      file_names_[twice->file],
      file_names_[(twice + 1)->file]
  );
}

const Checkpoint::Tensor* Checkpoint::find(std::string_view name) const {
  const auto at = std::lower_bound(
      tensors_.begin(),
      tensors_.end(),
      name,
      [](const Tensor& tensor, std::string_view wanted) { return tensor.name < wanted; }
  );
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

bool Checkpoint::contains(std::string_view name) const {
  return find(name) != nullptr;
}

Result<device::TensorView> Checkpoint::tensor(std::string_view name) const {
  const Tensor* tensor = find(name);
  if (tensor == nullptr) return not_found("the checkpoint has no tensor {}", name);
  return tensor->view;
}

Result<device::TensorView> Checkpoint::tensor(std::string_view name, const device::Shape& shape)
    const {
  PLEIAD_TRY(view, tensor(name));
  if (view.shape == shape) return view;
  return corrupt(
      "tensor {} has shape {}, the configuration asks for {}",
      name,
      text_of(view.shape),
      text_of(shape)
  );
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const Tensor& tensor : tensors_) {
    names.push_back(tensor.name);
  }
  return names;
}

std::uint64_t Checkpoint::total_bytes() const {
  std::uint64_t bytes = 0;
  for (const Tensor& tensor : tensors_) {
    bytes += tensor.view.bytes.size();
  }
  return bytes;
}

}  // namespace pleiad::weights
