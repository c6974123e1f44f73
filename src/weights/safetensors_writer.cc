#include "weights/safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "base/json.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"

namespace pleiad::weights {
namespace {

std::filesystem::path part_of(const std::filesystem::path& path) {
  return path.string() + ".part";
}

Error refused(const char* what, const std::filesystem::path& path) {
  return error(ErrorKind::Internal, "cannot {} {}: {}", what, path.string(), std::strerror(errno));
}

// Length, then the header, padded so that the data begins at a multiple of 8.
std::string header_bytes(const std::vector<TensorPlan>& tensors) {
  Json header(JsonObject{});
  std::uint64_t begin = 0;
  for (const TensorPlan& tensor : tensors) {
    JsonArray shape;
    for (std::size_t i = 0; i < tensor.shape.rank; ++i) {
      shape.emplace_back(tensor.shape[i]);
    }
    const std::uint64_t end = begin + tensor.bytes();
    Json entry;
    entry.set("dtype", std::string(device::to_string(tensor.dtype)));
    entry.set("shape", std::move(shape));
    entry.set(
        "data_offsets", JsonArray{static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end)}
    );
    header.set(tensor.name, std::move(entry));
    begin = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string out;
  for (unsigned i = 0; i < 8; ++i) {
    out += static_cast<char>((text.size() >> (8 * i)) & 0xFFU);
  }
  return out + text;
}

}  // namespace

std::uint64_t TensorPlan::bytes() const {
  return static_cast<std::uint64_t>(shape.elements()) * device::size_of(dtype);
}

Result<SafetensorsWriter> SafetensorsWriter::create(
    const std::filesystem::path& path,
    const std::vector<TensorPlan>& tensors
) {
  const std::string part = part_of(path).string();
  const int file = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return refused("create", part);
  const std::string header = header_bytes(tensors);
  std::uint64_t data = 0;
  for (const TensorPlan& tensor : tensors) {
    data += tensor.bytes();
  }
  SafetensorsWriter writer(path, file, data + header.size());
  PLEIAD_TRY(writer.append(std::as_bytes(std::span(header))));
  return writer;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), left_(other.left_) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ >= 0) ::close(file_);
}

Result<void> SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > left_) return invalid_input("{}: more bytes than planned", path_.string());
  left_ -= bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return refused("write", part_of(path_));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> SafetensorsWriter::finish() {
  if (left_ > 0) return invalid_input("{}: {} bytes are missing", path_.string(), left_);
  if (::fsync(file_) != 0) return refused("write", part_of(path_));
  ::close(std::exchange(file_, -1));
  if (::rename(part_of(path_).c_str(), path_.c_str()) != 0) return refused("rename", path_);
  return {};
}

bool holds_tensors(const std::filesystem::path& path, const std::vector<TensorPlan>& tensors) {
  const auto file = MappedFile::open(path);
  if (!file.ok()) return false;
  const auto header = parse_safetensors_header(file->bytes(), file->bytes().size());
  if (!header.ok() || header->tensors.size() != tensors.size()) return false;
  return std::ranges::equal(header->tensors, tensors, [](const auto& is, const auto& wanted) {
    return is.name == wanted.name && is.dtype == wanted.dtype && is.shape == wanted.shape;
  });
}

}  // namespace pleiad::weights
