#include "weights/mapped_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

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
  return MappedFile({static_cast<const std::byte*>(memory), size});
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    unmap(bytes_);
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
