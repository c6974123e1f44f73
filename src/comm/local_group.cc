#include "comm/local_group.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "comm/detail/local_mailbox.h"
#include "comm/detail/offers.h"

namespace pleiad::comm {
namespace {

// Small messages ride in their notes only while a lane is short, so that a sender that runs ahead
// is held by wait_sends().
constexpr std::size_t kInlineLaneMax = 64;

std::size_t index_of(Rank rank) {
  return static_cast<std::size_t>(rank);
}

class LocalGroup final : public Group {
 public:
  LocalGroup(std::shared_ptr<LocalCommon> common, Rank rank, const LocalGroupOptions& options);
  ~LocalGroup() override;

  [[nodiscard]] Rank rank() const override { return rank_; }
  [[nodiscard]] Rank size() const override { return static_cast<Rank>(lanes_.size()); }
  [[nodiscard]] Traffic traffic() const override { return traffic_; }

  void send(Rank peer, std::span<const std::byte> bytes) override;
  using Group::wait_sends;
  [[nodiscard]] std::uint64_t sends() const override { return traffic_.messages_sent; }
  Result<void> wait_sends(std::string_view step, std::uint64_t up_to) override;
  void post_receive(Rank peer, std::span<std::byte> buffer) override;
  Result<std::size_t> wait_receive(Rank peer, std::string_view step) override;
  void poll() override { progress("poll"); }

  Result<Wake> wait_for_message() override;
  void interrupt() override;
  void abort(Error reason) override { common_->break_group(rank_, std::move(reason)); }

  Result<WindowId> open_window(std::span<std::byte> memory, std::string_view step) override;
  Result<void> put(Rank peer, WindowId window, std::size_t offset, std::span<const std::byte> bytes)
      override;
  Result<void> wait_puts(std::string_view step) override;
  Result<void> wait_put_from(Rank peer, WindowId window, std::uint64_t count, std::string_view step)
      override;

 private:
  // This rank's side of the lanes between it and one peer.
  struct Lane {
    Offers offers;
    // Messages to the peer whose bytes it fetches, those it has fetched left out: their numbers
    // among all sends, counted from 1.
    Fifo<std::uint64_t> lent;
    std::uint64_t fetched = 0;  // messages that were taken off `lent`
  };

  template <typename Ready>
  Result<void> wait(Rank peer, std::string_view step, Ready ready);
  bool pause(std::uint64_t seen, Nanoseconds began);
  void progress(std::string_view step);
  bool deliver_next(Rank source, std::string_view step);
  void fetch(Rank source, std::span<const std::byte> lent, std::string_view step);
  void arrived(Lane& lane, std::size_t bytes);
  bool has_fetched(Rank peer, std::uint64_t up_to);
  std::optional<Wake> reason_to_wake();
  Error fail();
  Error fail(Error reason);
  void check_peer(Rank peer) const;

  // Shared by all ends of the group, none of which is known to live longest.
  std::shared_ptr<LocalCommon> common_;
  Rank rank_;
  LocalGroupOptions options_;
  LocalMailbox& mine_;
  std::vector<Lane> lanes_;  // [peer]
  Traffic traffic_;
  SystemClock clock_;
};

LocalGroup::LocalGroup(
    std::shared_ptr<LocalCommon> common,
    Rank rank,
    const LocalGroupOptions& options
)
    : common_(std::move(common)),
      rank_(rank),
      options_(options),
      mine_(common_->of(rank)),
      lanes_(common_->mailboxes.size()) {}

LocalGroup::~LocalGroup() {
  mine_.gone.store(true);
  for (const auto& mailbox : common_->mailboxes) {
    mailbox->post([] {});
  }
  while (mine_.borrowers.load() != 0) {
    std::this_thread::yield();
  }
}

void LocalGroup::check_peer(Rank peer) const {
  PLEIAD_CHECK(peer >= 0 && peer < size() && peer != rank_, "a peer is another rank of the group");
}

// A caller that is told of a failure may free its memory: nobody may be copying from it.
Error LocalGroup::fail() {
  while (mine_.borrowers.load() != 0) {
    std::this_thread::yield();
  }
  return common_->breakage.reason(rank_);
}

Error LocalGroup::fail(Error reason) {
  common_->break_group(rank_, std::move(reason));
  return fail();
}

void LocalGroup::send(Rank peer, std::span<const std::byte> bytes) {
  check_peer(peer);
  traffic_.bytes_sent += bytes.size();
  ++traffic_.messages_sent;
  if (common_->breakage.broken()) return;
  Lane& lane = lanes_[index_of(peer)];
  LocalMailbox& theirs = common_->of(peer);
  theirs.post([&] {
    auto& notes = theirs.lanes[index_of(rank_)];
    const bool rides_along = bytes.size() <= LocalNote::kInlineMax && notes.size() < kInlineLaneMax;
    LocalNote& note = notes.push();
    note.size = bytes.size();
    note.lent = !rides_along;
    note.bytes = bytes.data();
    if (!rides_along) {
      lane.lent.push() = traffic_.messages_sent;
    } else if (!bytes.empty()) {
      std::memcpy(note.own.data(), bytes.data(), bytes.size());
    }
  });
}

void LocalGroup::post_receive(Rank peer, std::span<std::byte> buffer) {
  check_peer(peer);
  lanes_[index_of(peer)].offers.post(buffer);
}

void LocalGroup::arrived(Lane& lane, std::size_t bytes) {
  lane.offers.fill(bytes);
  traffic_.bytes_received += bytes;
  ++traffic_.messages_received;
}

void LocalGroup::progress(std::string_view step) {
  for (Rank source = 0; source < size(); ++source) {
    while (lanes_[index_of(source)].offers.wants_message() && deliver_next(source, step)) {
    }
  }
}

// Moves the next message of `source` into the buffer offered for it; false when there is none.
bool LocalGroup::deliver_next(Rank source, std::string_view step) {
  Lane& lane = lanes_[index_of(source)];
  const std::span<std::byte> buffer = lane.offers.next();
  std::optional<std::span<const std::byte>> lent;
  std::size_t bytes = 0;
  {
    const std::lock_guard lock(mine_.mutex);
    auto& notes = mine_.lanes[index_of(source)];
    if (notes.empty() || common_->breakage.broken()) return false;
    const LocalNote& note = notes.front();
    bytes = note.size;
    if (note.lent) {
      lent.emplace(note.bytes, bytes);
    } else if (bytes > 0 && bytes <= buffer.size()) {
      std::memcpy(buffer.data(), note.own.data(), bytes);
    }
    notes.pop();
  }
  if (bytes > buffer.size()) {
    common_->break_group(rank_, too_long(step, rank_, source, bytes, buffer.size()));
    return false;
  }
  if (lent) {
    fetch(source, *lent, step);
    if (common_->breakage.broken()) return false;
  }
  arrived(lane, bytes);
  return true;
}

void LocalGroup::fetch(Rank source, std::span<const std::byte> lent, std::string_view step) {
  LocalMailbox& theirs = common_->of(source);
  const LocalLoan loan(*common_, source);
  if (!loan.given()) {
    common_->break_group(rank_, lost_peer(step, rank_, source, "its end of the group is gone"));
    return;
  }
  if (!lent.empty()) {
    std::memcpy(lanes_[index_of(source)].offers.next().data(), lent.data(), lent.size());
  }
  theirs.post([&] { ++theirs.fetched[index_of(rank_)]; });
}

// Looks for something to have changed since `seen`, then sleeps for it. False when the limit,
// counted from `began`, has passed.
bool LocalGroup::pause(std::uint64_t seen, Nanoseconds began) {
  for (int round = 0; round < options_.spin; ++round) {
    if (mine_.version.load() != seen) return true;
  }
  const Nanoseconds left = began + options_.limit - clock_.now();
  if (left <= Nanoseconds{0}) return false;
  mine_.rest(seen, left);
  return true;
}

// Returns when `ready()`, which depends on `peer`; otherwise breaks the group.
template <typename Ready>
Result<void> LocalGroup::wait(Rank peer, std::string_view step, Ready ready) {
  Nanoseconds began{-1};
  for (;;) {
    const std::uint64_t seen = mine_.version.load();
    // Read before looking for messages: what a rank sent before it went still counts.
    const bool gone = common_->of(peer).gone.load();
    if (common_->breakage.broken()) return fail();
    progress(step);
    if (common_->breakage.broken()) return fail();
    if (ready()) break;
    if (gone) return fail(lost_peer(step, rank_, peer, "its end of the group is gone"));
    if (began < Nanoseconds{0}) began = clock_.now();
    if (!pause(seen, began)) return fail(heard_nothing(step, rank_, peer, options_.limit));
  }
  if (began >= Nanoseconds{0}) traffic_.wait_seconds += to_seconds(clock_.now() - began);
  return {};
}

Result<std::size_t> LocalGroup::wait_receive(Rank peer, std::string_view step) {
  check_peer(peer);
  Offers& offers = lanes_[index_of(peer)].offers;
  PLEIAD_CHECK(!offers.empty(), "wait_receive() follows post_receive()");
  PLEIAD_TRY(wait(peer, step, [&] { return offers.has_message(); }));
  return offers.take();
}

// Whether the peer has fetched what was lent to it by the first `up_to` sends.
bool LocalGroup::has_fetched(Rank peer, std::uint64_t up_to) {
  Lane& lane = lanes_[index_of(peer)];
  if (lane.lent.empty()) return true;
  const std::lock_guard lock(mine_.mutex);
  for (; lane.fetched < mine_.fetched[index_of(peer)]; ++lane.fetched) {
    lane.lent.pop();
  }
  return lane.lent.empty() || lane.lent.front() > up_to;
}

Result<void> LocalGroup::wait_sends(std::string_view step, std::uint64_t up_to) {
  for (Rank peer = 0; peer < size(); ++peer) {
    if (has_fetched(peer, up_to)) continue;
    PLEIAD_TRY(wait(peer, step, [&] { return has_fetched(peer, up_to); }));
  }
  if (common_->breakage.broken()) return fail();
  return {};
}

std::optional<Group::Wake> LocalGroup::reason_to_wake() {
  const auto holds_message = [](const Lane& lane) { return lane.offers.has_message(); };
  if (std::any_of(lanes_.begin(), lanes_.end(), holds_message)) return Wake::Message;
  const std::lock_guard lock(mine_.mutex);
  for (const auto& notes : mine_.lanes) {
    if (!notes.empty()) return Wake::Message;
  }
  if (!mine_.interrupted) return std::nullopt;
  mine_.interrupted = false;
  return Wake::Interrupted;
}

Result<Group::Wake> LocalGroup::wait_for_message() {
  for (;;) {
    const std::uint64_t seen = mine_.version.load();
    Rank gone = 0;
    while (gone < size() && !common_->of(gone).gone.load()) {
      ++gone;
    }
    if (common_->breakage.broken()) return fail();
    if (const auto wake = reason_to_wake()) return *wake;
    if (gone < size()) {
      return fail(lost_peer("waiting for work", rank_, gone, "its end of the group is gone"));
    }
    mine_.rest(seen, Nanoseconds::max());
  }
}

void LocalGroup::interrupt() {
  mine_.post([&] { mine_.interrupted = true; });
}

Result<WindowId> LocalGroup::open_window(std::span<std::byte> memory, std::string_view step) {
  WindowId id;
  {
    const std::lock_guard lock(mine_.mutex);
    id.index = static_cast<std::uint32_t>(mine_.windows.size());
    mine_.windows.push_back({.memory = memory, .puts = std::vector<std::uint64_t>(index_of(size()))}
    );
  }
  PLEIAD_TRY(barrier(step));
  return id;
}

Result<void>
LocalGroup::put(Rank peer, WindowId window, std::size_t offset, std::span<const std::byte> bytes) {
  check_peer(peer);
  LocalMailbox& theirs = common_->of(peer);
  std::span<std::byte> memory;
  {
    const std::lock_guard lock(theirs.mutex);
    PLEIAD_CHECK(window.index < theirs.windows.size(), "a window that was opened");
    memory = theirs.windows[window.index].memory;
  }
  if (offset > memory.size() || bytes.size() > memory.size() - offset) {
    return invalid_input(
        "rank {} put {} bytes at {} into a window of rank {} that has {}",
        rank_,
        bytes.size(),
        offset,
        peer,
        memory.size()
    );
  }
  if (common_->breakage.broken()) return fail();
  const LocalLoan loan(*common_, peer);
  if (!loan.given()) return fail(lost_peer("put", rank_, peer, "its end of the group is gone"));
  if (!bytes.empty()) std::memcpy(memory.data() + offset, bytes.data(), bytes.size());
  theirs.post([&] { ++theirs.windows[window.index].puts[index_of(rank_)]; });
  traffic_.bytes_sent += bytes.size();
  return {};
}

Result<void> LocalGroup::wait_puts(std::string_view /*step*/) {
  if (common_->breakage.broken()) return fail();
  return {};
}

Result<void>
LocalGroup::wait_put_from(Rank peer, WindowId window, std::uint64_t count, std::string_view step) {
  check_peer(peer);
  return wait(peer, step, [&] {
    const std::lock_guard lock(mine_.mutex);
    PLEIAD_CHECK(window.index < mine_.windows.size(), "a window that was opened");
    return mine_.windows[window.index].puts[index_of(peer)] >= count;
  });
}

}  // namespace

std::vector<std::unique_ptr<Group>> make_local_group(Rank size, const LocalGroupOptions& options) {
  PLEIAD_CHECK(size > 0, "a group has at least one rank");
  const auto common = std::make_shared<LocalCommon>(size);
  std::vector<std::unique_ptr<Group>> ends;
  ends.reserve(index_of(size));
  for (Rank rank = 0; rank < size; ++rank) {
    ends.push_back(std::make_unique<LocalGroup>(common, rank, options));
  }
  return ends;
}

}  // namespace pleiad::comm
