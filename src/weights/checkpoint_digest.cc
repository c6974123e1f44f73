#include "weights/checkpoint_digest.h"

#include <algorithm>
#include <span>

#include <fmt/core.h>

#include "weights/read_file.h"

namespace pleiad::weights {
namespace {

constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20U;
constexpr std::size_t kSampledTensors = 256;
constexpr std::size_t kSampledBytes = 256;

// FNV-1a, 64 bits.
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) {
      state_ = (state_ ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3U;
    }
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  void add(std::int64_t number) { add(std::as_bytes(std::span(&number, 1))); }
  [[nodiscard]] std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0xCBF29CE484222325U;
};

}  // namespace

Result<std::string>
checkpoint_digest(const std::filesystem::path& folder, const Checkpoint& checkpoint) {
  PLEIAD_TRY(config, read_text_file(folder / "config.json", kConfigBytesMax));
  Hash hash;
  hash.add(config);
  const auto names = checkpoint.names();
  const std::size_t stride = std::max<std::size_t>(1, names.size() / kSampledTensors);
  for (std::size_t i = 0; i < names.size(); ++i) {
    PLEIAD_TRY(view, checkpoint.tensor(names[i]));
    hash.add(names[i]);
    hash.add(static_cast<std::int64_t>(view.dtype));
    for (std::size_t axis = 0; axis < view.shape.rank; ++axis) {
      hash.add(view.shape[axis]);
    }
    if (i % stride != 0) continue;
    // From the middle: beginnings are more alike.
    const std::size_t count = std::min(kSampledBytes, view.bytes.size());
    hash.add(view.bytes.subspan((view.bytes.size() - count) / 2, count));
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace pleiad::weights
