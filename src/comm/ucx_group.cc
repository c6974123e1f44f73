#include "comm/ucx_group.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "comm/detail/ucx_port.h"
#include "comm/detail/ucx_worker.h"
#include "comm/detail/wake_event.h"

namespace pleiad::comm {
namespace {

constexpr auto kLook = std::chrono::milliseconds{20};  // between looks at `stopped`

class Endpoint final : public UcxEndpoint {
 public:
  Endpoint(std::unique_ptr<UcxWorker> worker, const UcxGroupOptions& options)
      : worker_(std::move(worker)), options_(options) {}

  [[nodiscard]] std::span<const std::byte> address() const override { return worker_->address(); }
  std::unique_ptr<UcxWorker> take_worker() { return std::move(worker_); }
  [[nodiscard]] const UcxGroupOptions& options() const { return options_; }

 private:
  std::unique_ptr<UcxWorker> worker_;
  UcxGroupOptions options_;
};

class UcxGroup final : public Group {
 public:
  UcxGroup(
      std::unique_ptr<UcxWorker> worker,
      const UcxPort::Place& place,
      const UcxGroupOptions& options
  );

  Result<void>
  meet(std::span<const std::vector<std::byte>> addresses, const std::function<bool()>& stopped);

  [[nodiscard]] Rank rank() const override { return rank_; }
  [[nodiscard]] Rank size() const override { return size_; }
  [[nodiscard]] Traffic traffic() const override;

  void send(Rank peer, std::span<const std::byte> bytes) override;
  [[nodiscard]] std::uint64_t sends() const override { return traffic_.messages_sent; }
  using Group::wait_sends;
  Result<void> wait_sends(std::string_view step, std::uint64_t up_to) override;
  void post_receive(Rank peer, std::span<std::byte> buffer) override;
  Result<std::size_t> wait_receive(Rank peer, std::string_view step) override;
  void poll() override;

  Result<Wake> wait_for_message() override;
  void interrupt() override;
  void abort(Error reason) override;

  Result<WindowId> open_window(std::span<std::byte> memory, std::string_view step) override;
  Result<void> put(Rank peer, WindowId window, std::size_t offset, std::span<const std::byte> bytes)
      override;
  Result<void> wait_puts(std::string_view step) override;
  Result<void> wait_put_from(Rank peer, WindowId window, std::uint64_t count, std::string_view step)
      override;

 private:
  // What a look at the world found.
  enum class Look { Ready, NotYet, Broken };

  template <typename Ready>
  Result<void> wait(std::string_view step, Ready ready, const std::function<Rank()>& whom);
  template <typename Ready>
  Look look(std::string_view step, const Ready& ready, const std::function<Rank()>& whom);
  bool rest(Nanoseconds longest);
  Result<void> check_hellos();
  void watch_processes();
  void note_dead_processes();
  Error fail();
  void check_peer(Rank peer) const;

  const Rank rank_;
  const Rank size_;
  const UcxGroupOptions options_;
  Breakage breakage_;
  WakeEvent wake_;
  std::atomic<bool> interrupted_{false};
  mutable std::mutex mutex_;  // guards port_: abort() may come from any thread
  UcxPort port_;
  std::vector<FileHandle> processes_;     // pidfds of peers on this machine
  std::vector<Rank> process_ranks_;       // [processes_]
  std::vector<pollfd> events_;            // the worker's, wake_'s, then the processes'
  Nanoseconds look_{Nanoseconds::max()};  // between looks of wait() at its condition
  Traffic traffic_;
  std::uint64_t puts_ = 0;
  SystemClock clock_;
};

UcxGroup::UcxGroup(
    std::unique_ptr<UcxWorker> worker,
    const UcxPort::Place& place,
    const UcxGroupOptions& options
)
    : rank_(place.rank),
      size_(place.size),
      options_(options),
      port_(std::move(worker), place, breakage_) {
  events_.push_back({.fd = port_.worker().event_fd(), .events = POLLIN, .revents = 0});
  events_.push_back({.fd = wake_.fd(), .events = POLLIN, .revents = 0});
}

void UcxGroup::check_peer(Rank peer) const {
  PLEIAD_CHECK(peer >= 0 && peer < size_ && peer != rank_, "a peer is another rank of the group");
}

Error UcxGroup::fail() {
  const std::lock_guard lock(mutex_);
  port_.tear_down();
  return breakage_.reason(rank_);
}

// Sleeps until something may have changed; false when `longest` passed without that.
bool UcxGroup::rest(Nanoseconds longest) {
  bool armed = false;
  {
    const std::lock_guard lock(mutex_);
    if (breakage_.broken()) return true;
    armed = port_.worker().arm();
  }
  if (!armed) {
    // Also when a peer's queue in shared memory is full: it may need this processor to empty it.
    std::this_thread::yield();
    return true;
  }
  timespec limit{};
  const bool endless = longest == Nanoseconds::max();
  if (!endless) {
    limit.tv_sec = longest.count() / 1'000'000'000;
    limit.tv_nsec = longest.count() % 1'000'000'000;
  }
  const int happened = ::ppoll(events_.data(), events_.size(), endless ? nullptr : &limit, nullptr);
  if (happened == 0) return false;
  if ((events_[1].revents & POLLIN) != 0) wake_.clear();
  return true;
}

// The kernel says at once when the process of a peer on this machine has died.
void UcxGroup::watch_processes() {
  const UcxHome mine = find_home();
  for (Rank other = 0; other < size_; ++other) {
    const UcxHome& home = port_.peer(other).home;
    if (!home.shares_memory_with(mine) || home.process == mine.process) continue;
    FileHandle process(static_cast<int>(::syscall(SYS_pidfd_open, home.process, 0)));
    if (!process.valid()) continue;
    events_.push_back({.fd = process.get(), .events = POLLIN, .revents = 0});
    processes_.push_back(std::move(process));
    process_ranks_.push_back(other);
  }
}

void UcxGroup::note_dead_processes() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    pollfd& event = events_[2 + i];
    if ((event.revents & POLLIN) == 0) continue;
    event.revents = 0;
    event.fd = -1;  // said once
    auto& lost = port_.peer(process_ranks_[i]).lost;
    if (!lost) lost = "its process has died";
  }
}

template <typename Ready>
UcxGroup::Look
UcxGroup::look(std::string_view step, const Ready& ready, const std::function<Rank()>& whom) {
  const std::lock_guard lock(mutex_);
  if (breakage_.broken()) return Look::Broken;
  note_dead_processes();
  port_.advance(step);
  if (breakage_.broken()) return Look::Broken;
  if (ready()) return Look::Ready;
  if (const UcxPeer* lost = port_.lost_peer()) {
    breakage_.set(rank_, pleiad::comm::lost_peer(step, rank_, lost->rank, *lost->lost));
    return Look::Broken;
  }
  if (const Rank peer = whom(); port_.peer(peer).left()) {
    breakage_.set(rank_, pleiad::comm::lost_peer(step, rank_, peer, "it left the group"));
    return Look::Broken;
  }
  return Look::NotYet;
}

// Returns when `ready()`; until then `whom()` is the peer that is waited for.
template <typename Ready>
Result<void> UcxGroup::wait(std::string_view step, Ready ready, const std::function<Rank()>& whom) {
  Nanoseconds began{-1};
  for (int round = 0;; ++round) {
    const Look seen = look(step, ready, whom);
    if (seen == Look::Broken) return fail();
    if (seen == Look::Ready) break;
    if (began < Nanoseconds{0}) began = clock_.now();
    if (round < options_.spin) continue;
    const Nanoseconds left = began + options_.limit - clock_.now();
    if (left > Nanoseconds{0}) {
      rest(std::min(left, look_));
      continue;
    }
    breakage_.set(rank_, heard_nothing(step, rank_, whom(), options_.limit));
    return fail();
  }
  if (began >= Nanoseconds{0}) traffic_.wait_seconds += to_seconds(clock_.now() - began);
  return {};
}

// All know of the same number of ranks.
Result<void> UcxGroup::check_hellos() {
  for (Rank other = 0; other < size_; ++other) {
    const auto& hello = port_.peer(other).hello;
    if (!hello || hello->size == size_) continue;
    abort(corrupt("rank {} joined {} ranks, rank {} joined {}", rank_, size_, other, hello->size));
    return fail();
  }
  return {};
}

Result<void> UcxGroup::meet(
    std::span<const std::vector<std::byte>> addresses,
    const std::function<bool()>& stopped
) {
  {
    const std::lock_guard lock(mutex_);
    PLEIAD_TRY(port_.connect(addresses));
  }
  watch_processes();
  const auto missing = [&] {
    Rank other = 0;
    while (other < size_ && (other == rank_ || port_.peer(other).hello)) {
      ++other;
    }
    return other;
  };
  const auto someone = [&] { return std::min(missing(), size_ - 1); };
  const auto is_stopped = [&] { return stopped && stopped(); };
  look_ = kLook;
  const auto met = wait(
      "joining the group", [&] { return missing() == size_ || is_stopped(); }, someone
  );
  look_ = Nanoseconds::max();
  if (met.ok() && missing() == size_) return check_hellos();
  if (met.ok()) {
    abort(error(ErrorKind::Cancelled, "stopped while rank {} was joining the group", rank_));
    return fail();
  }
  const Rank late = someone();
  const auto other_epoch = late == rank_ ? std::nullopt : port_.peer(late).other_epoch;
  if (!other_epoch) return met.error();
  return with_context(
      met.error(), fmt::format("rank {} joined a group of epoch {}", late, *other_epoch)
  );
}

Traffic UcxGroup::traffic() const {
  const std::lock_guard lock(mutex_);
  Traffic traffic = traffic_;
  traffic.bytes_received = port_.bytes_received;
  traffic.messages_received = port_.messages_received;
  return traffic;
}

void UcxGroup::send(Rank peer, std::span<const std::byte> bytes) {
  check_peer(peer);
  traffic_.bytes_sent += bytes.size();
  ++traffic_.messages_sent;
  if (breakage_.broken()) return;
  const std::lock_guard lock(mutex_);
  port_.send(peer, {.kind = UcxKind::Message}, bytes, traffic_.messages_sent);
}

Result<void> UcxGroup::wait_sends(std::string_view step, std::uint64_t up_to) {
  Rank late = 0;
  const auto sent = [&] {
    const auto peer = port_.unsent(UcxKind::Message, up_to);
    late = peer.value_or(rank_);
    return !peer;
  };
  return wait(step, sent, [&] { return late; });
}

void UcxGroup::post_receive(Rank peer, std::span<std::byte> buffer) {
  check_peer(peer);
  const std::lock_guard lock(mutex_);
  port_.peer(peer).offers.post(buffer);
}

Result<std::size_t> UcxGroup::wait_receive(Rank peer, std::string_view step) {
  check_peer(peer);
  Offers& offers = port_.peer(peer).offers;
  PLEIAD_CHECK(!offers.empty(), "wait_receive() follows post_receive()");
  PLEIAD_TRY(wait(
      step, [&] { return offers.has_message(); }, [&] { return peer; }
  ));
  return offers.take();
}

void UcxGroup::poll() {
  if (breakage_.broken()) return;
  const std::lock_guard lock(mutex_);
  port_.advance("poll");
}

Result<Group::Wake> UcxGroup::wait_for_message() {
  Wake wake = Wake::Message;
  const auto ready = [&] {
    for (Rank other = 0; other < size_; ++other) {
      const UcxPeer& peer = port_.peer(other);
      if (peer.offers.has_message() || peer.messages.ready()) return true;
    }
    if (!interrupted_.exchange(false)) return false;
    wake = Wake::Interrupted;
    return true;
  };
  const auto whoever_left = [&] {
    Rank other = 0;
    while (other < size_ - 1 && !port_.peer(other).left()) {
      ++other;
    }
    return other;
  };
  for (;;) {
    const Look seen = look("waiting for work", ready, whoever_left);
    if (seen == Look::Broken) return fail();
    if (seen == Look::Ready) return wake;
    rest(Nanoseconds::max());
  }
}

void UcxGroup::interrupt() {
  interrupted_.store(true);
  wake_.signal();
}

void UcxGroup::abort(Error reason) {
  if (!breakage_.set(rank_, std::move(reason))) return;
  {
    const std::lock_guard lock(mutex_);
    port_.tear_down();
  }
  wake_.signal();
}

Result<WindowId> UcxGroup::open_window(std::span<std::byte> memory, std::string_view step) {
  WindowId id;
  const std::uint64_t mine = memory.size();
  std::vector<std::uint64_t> sizes(static_cast<std::size_t>(size_));
  {
    const std::lock_guard lock(mutex_);
    id.index = static_cast<std::uint32_t>(port_.windows().size());
    port_.windows().push_back(
        {.memory = memory, .sizes = {}, .puts = std::vector<std::uint64_t>(sizes.size())}
    );
  }
  const auto told = std::as_writable_bytes(std::span(sizes));
  PLEIAD_TRY(all_gather(std::as_bytes(std::span(&mine, 1)), told, step));
  const std::lock_guard lock(mutex_);
  port_.windows()[id.index].sizes.assign(sizes.begin(), sizes.end());
  return id;
}

Result<void>
UcxGroup::put(Rank peer, WindowId window, std::size_t offset, std::span<const std::byte> bytes) {
  check_peer(peer);
  if (breakage_.broken()) return fail();
  const std::lock_guard lock(mutex_);
  PLEIAD_CHECK(window.index < port_.windows().size(), "a window that was opened");
  const std::size_t room = port_.windows()[window.index].sizes[static_cast<std::size_t>(peer)];
  if (offset > room || bytes.size() > room - offset) {
    return invalid_input(
        "rank {} put {} bytes at {} into a window of rank {} that has {}",
        rank_,
        bytes.size(),
        offset,
        peer,
        room
    );
  }
  const UcxHeader header{.kind = UcxKind::Put, .window = window.index, .offset = offset};
  port_.send(peer, header, bytes, ++puts_);
  traffic_.bytes_sent += bytes.size();
  return {};
}

Result<void> UcxGroup::wait_puts(std::string_view step) {
  Rank late = 0;
  const auto sent = [&] {
    const auto peer = port_.unsent(UcxKind::Put, puts_);
    late = peer.value_or(rank_);
    return !peer;
  };
  return wait(step, sent, [&] { return late; });
}

Result<void>
UcxGroup::wait_put_from(Rank peer, WindowId window, std::uint64_t count, std::string_view step) {
  check_peer(peer);
  const auto landed = [&] {
    PLEIAD_CHECK(window.index < port_.windows().size(), "a window that was opened");
    return port_.windows()[window.index].puts[static_cast<std::size_t>(peer)] >= count;
  };
  return wait(step, landed, [&] { return peer; });
}

// Whether a value of UCX_TLS allows shared memory.
bool may_share_memory(std::string_view transports) {
  if (transports.empty()) return true;
  for (const std::string_view name : {"sm", "shm", "posix", "sysv", "xpmem", "all"}) {
    const std::size_t at = transports.find(name);
    if (at != std::string_view::npos && transports.front() != '^') return true;
  }
  return false;
}

}  // namespace

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::open(const UcxGroupOptions& options) {
  PLEIAD_TRY(worker, UcxWorker::open(options));
  return std::unique_ptr<UcxEndpoint>(std::make_unique<Endpoint>(std::move(worker), options));
}

Result<std::unique_ptr<Group>> UcxEndpoint::join(
    std::unique_ptr<UcxEndpoint> self,
    Rank rank,
    std::span<const std::vector<std::byte>> addresses,
    std::uint32_t epoch,
    const std::function<bool()>& stopped
) {
  auto& endpoint = static_cast<Endpoint&>(*self);
  const auto size = static_cast<Rank>(addresses.size());
  PLEIAD_CHECK(rank >= 0 && rank < size, "a rank of the group");
  for (const auto& address : addresses) {
    if (address.size() <= sizeof(UcxHome)) return invalid_input("a rank has no address");
  }
  const UcxGroupOptions options = endpoint.options();
  auto group = std::make_unique<UcxGroup>(
      endpoint.take_worker(),
      UcxPort::Place{
          .rank = rank,
          .size = size,
          .epoch = epoch,
          .checksums = options.checksums,
          .shared_memory = may_share_memory(options.transports)},
      options
  );
  PLEIAD_TRY(group->meet(addresses, stopped));
  return std::unique_ptr<Group>(std::move(group));
}

}  // namespace pleiad::comm
