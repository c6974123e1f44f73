#include "engine/memory_taken.h"

#include <string>

namespace pleiad::engine {

Error tell_taken(Error error, const MemoryTaken& taken) {
  if (error.kind != ErrorKind::Exhausted) return error;
  std::string text;
  const auto add = [&](std::string_view what, std::size_t bytes, std::string_view flag) {
    if (bytes == 0) return;
    constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
    text += fmt::format(
        "{}{} {:.2f} GiB{}", text.empty() ? "" : ", ", what, static_cast<double>(bytes) / kGib, flag
    );
  };
  add("weights", taken.weights, "");
  add("scratch", taken.scratch, " (--max-num-batched-tokens, --max-num-seqs)");
  add("KV pages", taken.kv_pages, " (--kv-cache-bytes, --mem-fraction-static)");
  if (text.empty()) return error;
  error.message += "; taken before: " + text;
  return error;
}

}  // namespace pleiad::engine
