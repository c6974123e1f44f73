#include "comm/detail/local_mailbox.h"

#include <utility>

namespace pleiad::comm {

void LocalMailbox::rest(std::uint64_t seen, Nanoseconds longest) {
  std::unique_lock lock(mutex);
  sleeping = true;
  const auto moved = [&] { return version.load() != seen; };
  if (longest == Nanoseconds::max()) {
    changed.wait(lock, moved);
  } else {
    changed.wait_for(lock, longest, moved);
  }
  sleeping = false;
}

LocalCommon::LocalCommon(Rank size) {
  for (Rank rank = 0; rank < size; ++rank) {
    mailboxes.push_back(std::make_unique<LocalMailbox>(size));
  }
}

void LocalCommon::break_group(Rank by, Error reason) {
  if (!breakage.set(by, std::move(reason))) return;
  for (const auto& mailbox : mailboxes) {
    mailbox->post([] {});
  }
}

// Either the owner, who first says that it is gone (or broken) and then looks for borrowers, sees
// this one, or this one sees what the owner said: both orders are sequentially consistent.
LocalLoan::LocalLoan(LocalCommon& common, Rank owner) : owner_(common.of(owner)) {
  owner_.borrowers.fetch_add(1);
  given_ = !owner_.gone.load() && !common.breakage.broken();
}

LocalLoan::~LocalLoan() {
  owner_.borrowers.fetch_sub(1);
}

}  // namespace pleiad::comm
