#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pleiad::comm {

// What a message between two ranks is for.
enum class UcxKind : std::uint32_t {
  Message = 1,  // of the lane
  Put = 2,      // into a window, at `offset`
  Hello = 3,    // the first words of a rank
  Goodbye = 4,  // the last ones: `sequence` messages and `offset` puts came before
  Broken = 5,   // the group is broken: `window` is the ErrorKind, `offset` the rank that broke it
};

// Travels in front of every payload. Ranks of one group run on machines of one byte order.
struct UcxHeader {
  UcxKind kind = UcxKind::Message;
  std::uint32_t epoch = 0;
  std::int32_t source = 0;
  std::uint32_t window = 0;
  std::uint64_t sequence = 0;  // of its kind and lane, from 0
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;     // of the payload
  std::uint64_t checksum = 0;  // of the fields above and the payload
};

// XXH3 over `header` (its checksum left out) and `payload`.
std::uint64_t checksum_of(const UcxHeader& header, std::span<const std::byte> payload);

// Payload of Hello.
struct UcxHello {
  std::int32_t size = 0;  // of the group
};

// Where a rank lives; the first bytes of its address. Ranks with the same `machine` (not 0) share
// memory and see each other's processes.
struct UcxHome {
  std::uint64_t machine = 0;
  std::int64_t process = 0;

  [[nodiscard]] bool shares_memory_with(const UcxHome& other) const {
    return machine != 0 && machine == other.machine;
  }
};

// This process's own.
UcxHome find_home();

}  // namespace pleiad::comm
