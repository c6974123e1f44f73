#include "weights/mapped_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "weights/open_file.h"

namespace pleiad::weights {
namespace {

void unmap(std::span<const std::byte> bytes) {
  // The mapping is ours and read-only; munmap wants a mutable pointer all the same.
  if (!bytes.empty()) munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

std::uintptr_t page_bytes() {
  return static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
}

void advise(std::uintptr_t begin, std::uintptr_t end, int advice) {
  // Advice: a kernel that does not take it changes nothing but speed.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  PLEIAD_TRY(file, OpenFile::open(path));
  if (file.size() == 0) return MappedFile();
  const std::size_t size = file.size();
  void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (memory == MAP_FAILED) {
    return internal_error(
        "{}: cannot be mapped: {}", path.string(), std::system_category().message(errno)
    );
  }
  return MappedFile(std::move(file), {static_cast<const std::byte*>(memory), size});
}

Result<void> MappedFile::read(std::size_t offset, std::span<std::byte> out) const {
  PLEIAD_CHECK(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
  while (!out.empty()) {
    const ssize_t got =
        pread(file_->descriptor(), out.data(), out.size(), static_cast<off_t>(offset));
    if (got == 0) return corrupt("the file ends at byte {}: it became shorter", offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return internal_error("reading failed: {}", std::system_category().message(errno));
    }
    offset += static_cast<std::size_t>(got);
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : file_(std::exchange(other.file_, std::nullopt)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    unmap(bytes_);
    file_ = std::exchange(other.file_, std::nullopt);
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

MappedFile::~MappedFile() {
  unmap(bytes_);
}

void advise_needed(std::span<const std::byte> part) {
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  advise(begin / page_bytes() * page_bytes(), begin + part.size(), MADV_WILLNEED);
}

void advise_unneeded(std::span<const std::byte> part) {
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  const std::uintptr_t page = page_bytes();
  advise((begin + page - 1) / page * page, (begin + part.size()) / page * page, MADV_DONTNEED);
}

}  // namespace pleiad::weights
