#include "engine/prefill_offer.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/json.h"
#include "device/dtype.h"

namespace pleiad::engine {
namespace {

constexpr std::size_t kCachesMax = 4096;
constexpr std::size_t kTextMax = 4096;
// Of any one number: layers, heads, widths, pages. Products of them do not overflow.
constexpr std::int64_t kNumberMax = std::int64_t{1} << 24U;

using Identity = api::WorkerReport::Identity;

struct Text {
  std::string_view name;
  std::string Identity::*field;
};
constexpr std::array kTexts = {
    Text{"version", &Identity::version},
    Text{"model", &Identity::model},
    Text{"digest", &Identity::digest},
    Text{"compute", &Identity::compute},
};

struct Width {
  std::string_view name;
  std::int64_t kv::LineShape::*field;
};
constexpr std::array kWidths = {
    Width{"layers", &kv::LineShape::layers},
    Width{"heads", &kv::LineShape::heads},
    Width{"key_width", &kv::LineShape::key_width},
    Width{"value_width", &kv::LineShape::value_width},
};

Result<std::string> text_of(const Json& json, std::string_view name) {
  const Json* value = json.find(name);
  const std::string* text = value == nullptr ? nullptr : value->as_string();
  if (text == nullptr || text->size() > kTextMax) {
    return corrupt("a prefill worker's offer without a text {}", name);
  }
  return *text;
}

Result<std::int64_t>
number_of(const Json& json, std::string_view name, std::int64_t most = kNumberMax) {
  const Json* value = json.find(name);
  const auto number = value == nullptr ? std::nullopt : value->as_int();
  if (!number || *number < 0 || *number > most) {
    return corrupt("a prefill worker's offer without a number {}", name);
  }
  return *number;
}

Json to_json(const SharedCache& cache) {
  Json out;
  out.set("machine", cache.name.machine);
  out.set("process", cache.name.process);
  out.set("file", cache.name.file);
  out.set("bytes", cache.name.bytes);
  out.set("token", cache.name.token);
  out.set("first_head", cache.heads.first);
  out.set("heads", cache.heads.count);
  out.set("pages", cache.pages);
  return out;
}

Result<SharedCache> cache_of(const Json& json, const kv::LineShape& lines) {
  SharedCache cache;
  PLEIAD_TRY(machine, text_of(json, "machine"));
  cache.name.machine = machine;
  PLEIAD_TRY(process, number_of(json, "process", INT32_MAX));
  cache.name.process = process;
  PLEIAD_TRY(file, number_of(json, "file", INT32_MAX));
  cache.name.file = file;
  PLEIAD_TRY(bytes, number_of(json, "bytes", INT64_MAX));
  cache.name.bytes = static_cast<std::uint64_t>(bytes);
  PLEIAD_TRY(token, text_of(json, "token"));
  cache.name.token = token;
  PLEIAD_TRY(first, number_of(json, "first_head"));
  PLEIAD_TRY(count, number_of(json, "heads"));
  cache.heads = {first, count};
  PLEIAD_TRY(pages, number_of(json, "pages", UINT32_MAX));
  cache.pages = pages;
  const kv::PartPlan plan{.shape = lines, .heads = cache.heads, .pages = pages};
  if (count == 0 || first + count > lines.heads || pages == 0 ||
      plan.cache_shape().page_bytes_all_layers() >
          cache.name.bytes / static_cast<std::uint64_t>(pages)) {
    return corrupt("a prefill worker's shared cache that is not what its lines need");
  }
  return cache;
}

Result<kv::LineShape> lines_of(const Json& json) {
  kv::LineShape lines;
  for (const Width& width : kWidths) {
    PLEIAD_TRY(value, number_of(json, width.name));
    lines.*width.field = value;
  }
  PLEIAD_TRY(name, text_of(json, "dtype"));
  const auto dtype = device::parse_dtype(name);
  if (!dtype) return corrupt("a prefill worker's offer of dtype {}", name);
  lines.dtype = *dtype;
  return lines;
}

std::string words(const kv::LineShape& lines) {
  return fmt::format(
      "{} layers of {} heads of {} + {} {}",
      lines.layers,
      lines.heads,
      lines.key_width,
      lines.value_width,
      device::to_string(lines.dtype)
  );
}

}  // namespace

std::string to_text(const PrefillOffer& offer) {
  Json out;
  for (const Text& text : kTexts) {
    out.set(text.name, offer.identity.*text.field);
  }
  out.set("page_tokens", offer.identity.page_tokens);
  out.set("instance", offer.instance);
  for (const Width& width : kWidths) {
    out.set(width.name, offer.lines.*width.field);
  }
  out.set("dtype", device::to_string(offer.lines.dtype));
  JsonArray caches;
  for (const SharedCache& cache : offer.caches) {
    caches.push_back(to_json(cache));
  }
  out.set("caches", std::move(caches));
  return out.dump();
}

Result<PrefillOffer> prefill_offer_of(std::string_view text) {
  PLEIAD_TRY(json, parse_json(text));
  PrefillOffer offer;
  for (const Text& one : kTexts) {
    PLEIAD_TRY(value, text_of(json, one.name));
    offer.identity.*one.field = value;
  }
  PLEIAD_TRY(page_tokens, number_of(json, "page_tokens"));
  offer.identity.page_tokens = page_tokens;
  PLEIAD_TRY(instance, text_of(json, "instance"));
  offer.instance = instance;
  PLEIAD_TRY(lines, lines_of(json));
  offer.lines = lines;
  const Json* list = json.find("caches");
  const JsonArray* caches = list == nullptr ? nullptr : list->as_array();
  if (caches == nullptr || caches->size() > kCachesMax) {
    return corrupt("a prefill worker's offer without 0 to {} caches", kCachesMax);
  }
  for (const Json& one : *caches) {
    PLEIAD_TRY(cache, cache_of(one, offer.lines));
    offer.caches.push_back(std::move(cache));
  }
  return offer;
}

Result<void> check_pair(const PrefillOffer& here, const PrefillOffer& there) {
  const std::string difference = api::difference(here.identity, there.identity);
  if (!difference.empty()) return unsupported("the workers differ: {}", difference);
  if (here.lines == there.lines) return {};
  return unsupported(
      "the workers differ: lines {} here, {} there", words(here.lines), words(there.lines)
  );
}

}  // namespace pleiad::engine
