#include "weights/open_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pleiad::weights {

Result<OpenFile> OpenFile::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int code = errno;
    if (code == ENOENT || code == ENOTDIR) return not_found("{}: no such file", path.string());
    return internal_error("{}: {}", path.string(), std::system_category().message(code));
  }
  OpenFile file(descriptor);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    return internal_error("{}: {}", path.string(), std::system_category().message(errno));
  }
  if (!S_ISREG(status.st_mode)) return invalid_input("{}: not a regular file", path.string());
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

OpenFile::OpenFile(OpenFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

OpenFile& OpenFile::operator=(OpenFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace pleiad::weights
