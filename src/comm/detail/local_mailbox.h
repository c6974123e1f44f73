#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/clock.h"
#include "comm/detail/breakage.h"
#include "comm/detail/fifo.h"
#include "comm/group.h"

namespace pleiad::comm {

// What a sender tells a receiver: where the bytes lie, or the bytes themselves when they are few,
// so that nobody has to wait until they are fetched.
struct LocalNote {
  static constexpr std::size_t kInlineMax = 192;  // bytes

  bool lent = false;                 // the sender's bytes are to be fetched; else they are in `own`
  const std::byte* bytes = nullptr;  // when lent
  std::size_t size = 0;
  std::array<std::byte, kInlineMax> own{};
};

// A window as its owner opened it, and how many puts of each rank have landed in it.
struct LocalWindow {
  std::span<std::byte> memory;
  std::vector<std::uint64_t> puts;  // [rank]
};

// What the other ranks leave for one rank. Every change moves `version`, under the mutex, so that
// the owner can look at everything and then sleep until something is different.
struct LocalMailbox {
  explicit LocalMailbox(Rank size)
      : lanes(static_cast<std::size_t>(size)), fetched(static_cast<std::size_t>(size)) {}

  // Makes `change` under the mutex and wakes the owner.
  template <typename Change>
  void post(Change change) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex);
      change();
      version.fetch_add(1);
      wake = sleeping;
    }
    if (wake) changed.notify_all();
  }
  // Sleeps while `version` is still `seen`, at most `longest`. Owner only.
  void rest(std::uint64_t seen, Nanoseconds longest);

  std::mutex mutex;  // guards what follows up to the atomics; no other lock is taken under it
  std::condition_variable changed;
  bool sleeping = false;
  bool interrupted = false;
  std::vector<Fifo<LocalNote>> lanes;  // [source]
  std::vector<std::uint64_t> fetched;  // [receiver] messages of the owner that were copied there
  std::vector<LocalWindow> windows;    // in the order of their opening

  std::atomic<std::uint64_t> version{0};
  // Peers that are copying out of or into memory that the owner lent. The owner may not take such
  // memory back while there are any.
  std::atomic<int> borrowers{0};
  std::atomic<bool> gone{false};  // the owner's end was destroyed
};

// What the ends of a local group have in common.
struct LocalCommon {
  explicit LocalCommon(Rank size);

  [[nodiscard]] LocalMailbox& of(Rank rank) { return *mailboxes[static_cast<std::size_t>(rank)]; }
  // Breaks the group unless it was broken before, and wakes everybody.
  void break_group(Rank by, Error reason);

  std::vector<std::unique_ptr<LocalMailbox>> mailboxes;  // [rank]
  Breakage breakage;
};

// Leave to touch memory that a rank lent: given unless that rank's end is gone or the group is
// broken, for as long as this lives.
class LocalLoan {
 public:
  LocalLoan(LocalCommon& common, Rank owner);
  ~LocalLoan();
  LocalLoan(const LocalLoan&) = delete;
  LocalLoan& operator=(const LocalLoan&) = delete;

  [[nodiscard]] bool given() const { return given_; }

 private:
  LocalMailbox& owner_;
  bool given_;
};

}  // namespace pleiad::comm
