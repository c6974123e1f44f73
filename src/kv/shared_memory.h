#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "kv/paged_cache.h"

namespace pleiad::kv {

// Where another process of the same machine finds memory that this one shares.
struct SharedName {
  std::string machine;  // this start of it, and the processes that see each other
  std::int64_t process = 0;
  std::int64_t file = 0;  // a descriptor of that process
  std::uint64_t bytes = 0;
  std::string token;  // what the memory itself says it is

  friend bool operator==(const SharedName&, const SharedName&) = default;
};

// The machine of this process; empty when unknown, and then nothing is shared.
std::string machine_name();

// Zeroed memory that other processes may read. It has no name in any folder and goes when the last
// process that has it does, however that ends. Pages are touched on first use.
class SharedMemory final : public CacheMemory {
 public:
  // Fails with Exhausted when the system refuses.
  static Result<std::unique_ptr<SharedMemory>> allocate(std::size_t bytes);
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() override;

  [[nodiscard]] std::byte* data() override;
  [[nodiscard]] const SharedName& name() const { return name_; }

 private:
  SharedMemory() = default;

  int file_ = -1;
  std::byte* map_ = nullptr;
  std::size_t map_bytes_ = 0;
  SharedName name_;
};

// Another process's SharedMemory, to read. Stays readable after that process is gone.
class MappedMemory {
 public:
  // Fails with Unavailable when this process cannot get at it (another machine or container, no
  // right to), or when what is there is not what was named.
  static Result<std::unique_ptr<MappedMemory>> open(const SharedName& name);
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;
  ~MappedMemory();

  [[nodiscard]] std::span<const std::byte> bytes() const;

 private:
  MappedMemory() = default;

  const std::byte* map_ = nullptr;
  std::size_t map_bytes_ = 0;
};

}  // namespace pleiad::kv
