#include "weights/read_file.h"

#include <cerrno>
#include <system_error>

#include <unistd.h>

#include "weights/open_file.h"

namespace pleiad::weights {

Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t bytes_max) {
  PLEIAD_TRY(file, OpenFile::open(path));
  if (file.size() > bytes_max) {
    return invalid_input(
        "{}: {} bytes, at most {} are read", path.string(), file.size(), bytes_max
    );
  }
  std::string text(file.size(), '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const auto got = ::read(file.descriptor(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return internal_error("{}: {}", path.string(), std::system_category().message(errno));
    }
    if (got == 0) break;  // it was shortened meanwhile: what is there is the content
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  return text;
}

}  // namespace pleiad::weights
