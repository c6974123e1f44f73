#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ucp/api/ucp.h>

#include "base/clock.h"
#include "comm/detail/breakage.h"
#include "comm/detail/fifo.h"
#include "comm/detail/offers.h"
#include "comm/detail/ucx_wire.h"
#include "comm/detail/ucx_worker.h"
#include "comm/group.h"

namespace pleiad::comm {

// Memory that peers may write into, and how many writes of each have landed.
struct UcxWindow {
  std::span<std::byte> memory;
  std::vector<std::size_t> sizes;   // [rank] of its window
  std::vector<std::uint64_t> puts;  // [rank]
};

// The messages of one kind from one peer, in the order in which they were sent.
struct UcxStream {
  // A message that has come and waits for its turn or for its buffer.
  struct Arrival {
    bool there = false;
    bool by_rendezvous = false;  // the bytes still lie with the sender
    void* payload = nullptr;     // UCX's, to be received or released; null when there is none
    UcxHeader header;
  };

  std::uint64_t next = 0;     // sequence of arrivals[0]
  Fifo<Arrival> arrivals;     // some may not be there yet
  void* receiving = nullptr;  // UCX's request that fetches the front's bytes
  [[nodiscard]] bool ready() const { return !arrivals.empty() && arrivals[0].there; }
};

// What a rank knows of one peer.
struct UcxPeer {
  Rank rank = 0;
  UcxHome home;
  ucp_ep_h endpoint = nullptr;
  // Whether UCX watches the connection. It cannot where it uses shared memory; there the process is
  // watched (ucx_group.cc).
  bool watched_by_ucx = false;
  std::optional<UcxHello> hello;
  std::optional<std::uint32_t> other_epoch;  // a hello of another epoch came
  std::optional<UcxHeader> goodbye;
  std::optional<std::string> lost;  // how
  UcxStream messages;
  UcxStream puts;
  Offers offers;
  std::uint64_t messages_sent = 0;
  std::uint64_t puts_sent = 0;

  // Left, and everything that it sent has been taken.
  [[nodiscard]] bool left() const {
    return goodbye && messages.next == goodbye->sequence && puts.next == goodbye->offset;
  }
};

// One rank's traffic over UCX: endpoints, messages on their way out, messages that came. Never
// waits for long. One thread at a time.
class UcxPort {
 public:
  struct Place {
    Rank rank = 0;
    Rank size = 1;
    std::uint32_t epoch = 0;
    bool checksums = true;
    bool shared_memory = true;  // may be used
  };

  UcxPort(std::unique_ptr<UcxWorker> worker, const Place& place, Breakage& breakage);
  ~UcxPort();
  UcxPort(const UcxPort&) = delete;
  UcxPort& operator=(const UcxPort&) = delete;

  // Creates the endpoints and says hello.
  Result<void> connect(std::span<const std::vector<std::byte>> addresses);
  // Sends `payload`, which stays with the caller, as the next of its kind to rank `to`. `mark` is
  // what unsent() goes by.
  void send(Rank to, UcxHeader header, std::span<const std::byte> payload, std::uint64_t mark);
  // Moves everything that can move. What contradicts itself breaks the group, naming `step`.
  void advance(std::string_view step);
  // Whether sends of `kind` with marks up to `mark` are done; the peer of the first that is not.
  std::optional<Rank> unsent(UcxKind kind, std::uint64_t mark);

  [[nodiscard]] UcxPeer& peer(Rank rank) { return *peers_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] std::vector<UcxWindow>& windows() { return windows_; }
  [[nodiscard]] UcxWorker& worker() { return *worker_; }
  // A peer that is dead or unreachable, not one that said goodbye.
  [[nodiscard]] const UcxPeer* lost_peer() const;

  // Tells the peers why the group is broken and closes everything at once. From then on nothing
  // moves, and no buffer of a caller is touched. REQUIRES: the breakage is broken.
  void tear_down();
  // Says goodbye and closes when all that was sent has left, or a moment has passed.
  void leave();

  std::uint64_t bytes_received = 0;
  std::uint64_t messages_received = 0;

 private:
  struct Send;

  static ucs_status_t on_arrival(
      void* port,
      const void* header,
      std::size_t header_bytes,
      void* payload,
      std::size_t payload_bytes,
      const ucp_am_recv_param_t* how
  );
  static void on_endpoint_error(void* peer, ucp_ep_h endpoint, ucs_status_t status);

  // Returns true when UCX's hold on the payload has become ours.
  bool accept(UcxPeer& peer, const UcxStream::Arrival& arrival);
  void hear(UcxPeer& peer, const UcxHeader& header, std::span<const std::byte> payload);
  bool deliver(UcxPeer& peer, UcxStream& stream);
  bool fetch_front(UcxPeer& peer, UcxStream& stream, std::span<std::byte> buffer);
  std::optional<std::span<std::byte>> destination(UcxPeer& peer, const UcxHeader& header);
  void finish(
      UcxPeer& peer,
      UcxStream& stream,
      const UcxHeader& header,
      std::span<const std::byte> payload
  );
  void break_here(Error reason) { breakage_.set(place_.rank, std::move(reason)); }
  void say(UcxKind kind, const UcxHeader& header, std::span<const std::byte> payload);
  void release_arrivals();
  void settle_fetches(Nanoseconds longest);
  void reap_sends();
  void run_until_said(UcxKind kind, Nanoseconds longest);
  void close_endpoints(unsigned flags, Nanoseconds longest);
  void idle(std::chrono::milliseconds longest);
  Send& free_send();

  std::unique_ptr<UcxWorker> worker_;
  Place place_;
  Breakage& breakage_;
  std::vector<std::unique_ptr<UcxPeer>> peers_;  // [rank]; their addresses are UCX's arguments
  std::vector<UcxWindow> windows_;
  std::vector<std::unique_ptr<Send>> sends_;
  std::vector<Send*> free_sends_;
  Fifo<Send*> sending_;    // in the order of send()
  UcxHello hello_;         // payload of Hello, until it has left
  std::string farewell_;   // payload of Broken, until it has left
  std::string_view step_;  // of the advance() under way
  bool closed_ = false;
  SystemClock clock_;
};

}  // namespace pleiad::comm
