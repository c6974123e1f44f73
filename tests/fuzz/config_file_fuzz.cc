#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "plan/config_file.h"

// Every flag that comes out has a plain name and a value.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto file = pleiad::plan::read_config_file(text);
  if (!file.ok()) return 0;
  for (const auto& flag : file->flags) {
    const bool plain = !flag.flag.empty() && flag.flag.front() != '-' &&
                       flag.flag.find_first_of("_ =\n") == std::string::npos;
    if (!plain || flag.values.empty()) std::abort();
  }
  return 0;
}
