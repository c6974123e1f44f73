#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/group.h"

namespace pleiad::comm {

struct UcxGroupOptions {
  std::chrono::milliseconds limit{60'000};  // of one wait for a peer
  bool checksums = true;                    // of every message
  int spin = 0;                             // rounds of progress before sleeping; 0: sleep at once
  std::string transports;  // UCX_TLS, such as "tcp" or "sm,self"; empty: what UCX finds best
  std::string interface;   // UCX_NET_DEVICES, such as "eth0"; empty: any
};

// A rank of a group over UCX before it knows its peers: it has an address to tell them. Uses shared
// memory inside a host, RDMA or TCP between hosts, as UCX finds.
class UcxEndpoint {
 public:
  // Fails with Internal when UCX finds no usable transport.
  static Result<std::unique_ptr<UcxEndpoint>> open(const UcxGroupOptions& options);
  virtual ~UcxEndpoint() = default;
  // Opaque bytes for the peers; what rendezvous carries. They also tell ranks of one machine that
  // they can share memory and watch each other's processes.
  [[nodiscard]] virtual std::span<const std::byte> address() const = 0;
  // Becomes rank `rank` of the ranks with these addresses, in rank order. `epoch` is told with
  // every message: one of another epoch is dropped, so that a late write of an earlier group harms
  // nobody. Collective: returns once every peer has answered, or fails within the limit naming who
  // has not. Fails with Cancelled soon after `stopped` turned true, which may be empty.
  static Result<std::unique_ptr<Group>> join(
      std::unique_ptr<UcxEndpoint> self,
      Rank rank,
      std::span<const std::vector<std::byte>> addresses,
      std::uint32_t epoch,
      const std::function<bool()>& stopped = {}
  );
};

}  // namespace pleiad::comm
