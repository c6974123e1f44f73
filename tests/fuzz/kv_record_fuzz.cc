#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "kv/assembly.h"
#include "kv/record.h"

namespace {

using namespace pleiad;  // NOLINT(google-build-using-namespace): a program of one function

constexpr kv::LineShape kShape{
    .layers = 2,
    .heads = 2,
    .key_width = 1,
    .value_width = 1,
    .dtype = device::DType::BF16};

}  // namespace

// Whatever comes, records are cut and taken without touching a byte beside the pages. Heads
// that are changed are also tried as if they had been sealed so.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const kv::PartPlan part{.shape = kShape, .heads = {0, 2}, .pages = 2};
  std::vector<std::byte> cache(part.cache_shape().page_bytes_all_layers() * 2);
  kv::Assembly assembly({
      .id = {.epoch = 1, .number = 2, .attempt = 0},
      .shape = kShape,
      .first = 3,
      .end = 80,
      .parts = {{.plan = part, .base = cache.data()}},
      .pages = {1, 0},
      .sources = {{.plan = part, .base = cache.data()}},
  });
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  kv::RecordReader reader;
  reader.feed(text);
  for (;;) {
    const auto record = reader.next();
    if (!record.ok() || !record->has_value()) break;
    if (!assembly.take(**record).ok()) break;
  }
  // A mutated head never has its seal: as the head of a record that somebody meant.
  if (size < sizeof(kv::RecordHead)) return 0;
  kv::Record meant;
  std::memcpy(&meant.head, bytes, sizeof(meant.head));
  meant.head.set_id(assembly.plan().id);
  meant.payload = std::as_bytes(std::span(text)).subspan(sizeof(meant.head));
  static_cast<void>(assembly.take(meant));
  return 0;
}
