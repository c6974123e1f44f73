#include "weights/safetensors.h"

#include <algorithm>
#include <optional>

#include "base/json.h"

namespace pleiad::weights {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::size_t kDepthMax = 8;
constexpr std::string_view kMetadata = "__metadata__";  // the one member that is no tensor
// Longer names are cut in error texts.
constexpr std::size_t kShownBytes = 120;

// `name` as it may stand in an error text: quoted, control characters escaped, not too long.
std::string shown(std::string_view name) {
  std::string text;
  append_json_string(name.substr(0, kShownBytes), text);
  if (name.size() > kShownBytes) text += "...";
  return text;
}

std::uint64_t little_endian_64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}

Result<std::string_view> header_text(
    std::span<const std::byte> file_head,
    std::uint64_t file_bytes,
    const SafetensorsLimits& limits
) {
  if (file_bytes < kLengthBytes || file_head.size() < kLengthBytes) {
    return corrupt("{} bytes are too few for a safetensors file", file_bytes);
  }
  const std::uint64_t length = little_endian_64(file_head);
  if (length > limits.header_bytes_max) {
    return corrupt("header of {} bytes, at most {} are read", length, limits.header_bytes_max);
  }
  if (length > file_bytes - kLengthBytes || length > file_head.size() - kLengthBytes) {
    return corrupt("header of {} bytes reaches past the end of the file ({})", length, file_bytes);
  }
  const auto* text = reinterpret_cast<const char*>(file_head.data()) + kLengthBytes;
  return std::string_view(text, length);
}

Result<void> check_metadata(const Json& metadata) {
  const JsonObject* members = metadata.as_object();
  if (members == nullptr) {
    return corrupt("__metadata__ is a {}, not an object", metadata.type_name());
  }
  for (const auto& [key, value] : *members) {
    if (!value.is_string()) {
      return corrupt("__metadata__ {} is a {}, not a string", shown(key), value.type_name());
    }
  }
  return {};
}

// A number that is a count or an offset.
std::optional<std::uint64_t> unsigned_of(const Json& value) {
  if (!value.is_integer()) return std::nullopt;
  const auto number = value.as_int();
  if (!number || *number < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*number);
}

Result<device::Shape> shape_of(const Json& value) {
  const JsonArray* extents = value.as_array();
  if (extents == nullptr) return corrupt("shape is a {}, not an array", value.type_name());
  if (extents->size() > device::Shape::kRankMax) {
    return unsupported(
        "rank {}, at most {} is supported", extents->size(), device::Shape::kRankMax
    );
  }
  device::Shape shape;
  for (const Json& extent : *extents) {
    const auto number = unsigned_of(extent);
    if (!number) return corrupt("extent {} of the shape is no count", extent.dump());
    shape.extents[shape.rank] = static_cast<std::int64_t>(*number);
    ++shape.rank;
  }
  return shape;
}

// Bytes of a tensor, or nothing when they do not fit 64 bits.
std::optional<std::uint64_t> bytes_of(const device::Shape& shape, device::DType dtype) {
  std::uint64_t bytes = device::size_of(dtype);
  for (std::size_t axis = 0; axis < shape.rank; ++axis) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(shape[axis]), &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

Result<void> read_offsets(const Json& value, TensorEntry& entry) {
  const JsonArray* offsets = value.as_array();
  if (offsets == nullptr || offsets->size() != 2) {
    return corrupt("data_offsets is not an array of two");
  }
  const auto begin = unsigned_of((*offsets)[0]);
  const auto end = unsigned_of((*offsets)[1]);
  if (!begin || !end || *begin > *end) {
    return corrupt("data_offsets {} are no span", value.dump());
  }
  entry.begin = *begin;
  entry.end = *end;
  return {};
}

// The entry but for its name.
Result<TensorEntry> entry_of(const Json& value, std::uint64_t data_bytes) {
  const JsonObject* members = value.as_object();
  if (members == nullptr) return corrupt("is a {}, not an object", value.type_name());
  const Json* dtype = value.find("dtype");
  const Json* shape = value.find("shape");
  const Json* offsets = value.find("data_offsets");
  if (dtype == nullptr || shape == nullptr || offsets == nullptr || members->size() != 3) {
    return corrupt("has other members than dtype, shape and data_offsets");
  }
  TensorEntry entry;
  const std::string* dtype_name = dtype->as_string();
  if (dtype_name == nullptr) return corrupt("dtype is a {}, not a string", dtype->type_name());
  const auto known = device::parse_dtype(*dtype_name);
  if (!known) return unsupported("dtype {} is not supported", shown(*dtype_name));
  entry.dtype = *known;
  PLEIAD_TRY(extents, shape_of(*shape));
  entry.shape = extents;
  PLEIAD_TRY(read_offsets(*offsets, entry));
  const auto bytes = bytes_of(entry.shape, entry.dtype);
  if (!bytes || *bytes != entry.end - entry.begin) {
    return corrupt(
        "shape {} of {} does not fill bytes [{}, {})",
        shape->dump(),
        *dtype_name,
        entry.begin,
        entry.end
    );
  }
  if (entry.end > data_bytes) {
    return corrupt(
        "bytes [{}, {}) reach past the end of the data ({})", entry.begin, entry.end, data_bytes
    );
  }
  return entry;
}

// The JSON parser looks for duplicates in small objects only.
Result<void> check_names(std::span<const TensorEntry> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorEntry& tensor : tensors) {
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return corrupt("tensor {}: stands there twice", shown(*twice));
  return {};
}

// Spans in order must follow each other from zero to the end of the file.
Result<void> check_cover(std::span<const TensorEntry> tensors, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.begin < covered) {
      return corrupt(
          "tensor {}: overlaps its neighbour: starts at byte {}, which lies before {}",
          shown(tensor.name),
          tensor.begin,
          covered
      );
    }
    if (tensor.begin > covered) {
      return corrupt(
          "tensor {}: bytes [{}, {}) before it belong to no tensor",
          shown(tensor.name),
          covered,
          tensor.begin
      );
    }
    covered = tensor.end;
  }
  if (covered != data_bytes) {
    return corrupt("{} bytes after the last tensor belong to none", data_bytes - covered);
  }
  return {};
}

// All tensors' entries, in order of their bytes.
Result<std::vector<TensorEntry>> entries_of(const JsonObject& members, std::uint64_t data_bytes) {
  std::vector<TensorEntry> tensors;
  tensors.reserve(members.size());
  for (const auto& [name, value] : members) {
    if (name == kMetadata) continue;
    auto entry = entry_of(value, data_bytes);
    if (!entry.ok()) return with_context(std::move(entry).error(), "tensor " + shown(name));
    entry->name = name;
    tensors.push_back(*std::move(entry));
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    return a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  return tensors;
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(
    std::span<const std::byte> file_head,
    std::uint64_t file_bytes,
    const SafetensorsLimits& limits
) {
  PLEIAD_TRY(text, header_text(file_head, file_bytes, limits));
  auto parsed = parse_json(text, {.depth_max = kDepthMax, .bytes_max = text.size()});
  if (!parsed.ok()) return corrupt("header: {}", parsed.error().message);
  const JsonObject* members = parsed->as_object();
  if (members == nullptr) return corrupt("header is a {}, not an object", parsed->type_name());
  if (members->size() > limits.tensors_max) {
    return corrupt("{} tensors, at most {} are read", members->size(), limits.tensors_max);
  }
  const Json* metadata = parsed->find(kMetadata);
  if (metadata != nullptr) {
    PLEIAD_TRY(check_metadata(*metadata));
  }
  SafetensorsHeader header;
  header.data_offset = kLengthBytes + text.size();
  const std::uint64_t data_bytes = file_bytes - header.data_offset;
  PLEIAD_TRY(tensors, entries_of(*members, data_bytes));
  header.tensors = std::move(tensors);
  PLEIAD_TRY(check_names(header.tensors));
  PLEIAD_TRY(check_cover(header.tensors, data_bytes));
  return header;
}

}  // namespace pleiad::weights
