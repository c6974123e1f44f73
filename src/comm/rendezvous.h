#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "comm/control_link.h"

namespace pleiad::comm {

// What a node says of itself when it asks to join. Strings are compared, and told in refusals.
struct NodeHello {
  std::int32_t node = 0;   // --node-rank
  std::int32_t nodes = 0;  // --nnodes
  std::string version;     // of the program
  std::string model;       // digest of the checkpoint: config and tensor headers
  std::string layout;      // what both must agree on: sizes, ep level, dtype, limits
  // One address per local rank, in rank order: what UcxEndpoint::address() gave.
  std::vector<std::vector<std::byte>> addresses;
};

// The group as node 0 announces it once everybody is there.
struct Roster {
  std::uint32_t epoch = 0;
  std::vector<NodeHello> nodes;  // in node order
};

struct RendezvousOptions {
  std::string address;  // --dist-init-addr of node 0, "host:port"
  std::string secret;   // the cluster's; both sides prove that they know it, it never travels
  ControlOptions control;
};

// Node 0's side: listens at `address` (port 0: a free one) and lets the other nodes in. A
// connection proves the secret by answering a challenge (HMAC-SHA256), in both directions, before
// any of its words are believed; each step has a limit in bytes and time. A node that does not fit
// is told why (version, model, layout, place taken, wrong secret) and the same is logged; garbage
// is dropped.
class RendezvousHost {
 public:
  static Result<std::unique_ptr<RendezvousHost>> listen(const RendezvousOptions& options);
  virtual ~RendezvousHost() = default;
  [[nodiscard]] virtual std::uint16_t port() const = 0;

  struct Gathered {
    Roster roster;
    std::vector<std::unique_ptr<ControlLink>> links;  // [nodes]; element 0 is null
  };
  // Waits until all of `self.nodes` nodes are there, then tells all of them the roster under a new
  // epoch, which grows from call to call and over restarts of node 0. Call again after a node was
  // lost; nodes come back by themselves. Ends with Cancelled after stop(). `on_waiting` is told who
  // is still missing whenever that changes; may be empty.
  virtual Result<Gathered> gather(
      const NodeHello& self,
      const std::function<void(const std::vector<std::int32_t>& missing)>& on_waiting
  ) = 0;
  // While the group of the last gather() stands: goes on answering. A node that does not fit is
  // told why; one that fits is told that its place is held, and is there for the next gather().
  // Returns when end_attendance() was called since that gather() began, or after stop().
  virtual void attend() = 0;
  // Any thread.
  virtual void end_attendance() = 0;
  // Any thread.
  virtual void stop() = 0;
};

// Another node's side.
struct Joined {
  Roster roster;
  std::unique_ptr<ControlLink> link;  // to node 0
};

// Reaches node 0 (trying again while nobody listens there yet), proves the secret, says `self`, and
// waits for the roster. Fails with InvalidInput carrying node 0's reason when refused, Cancelled
// when `stopped` turns true. `on_waiting` is told what it waits for whenever that changes; may be
// empty.
Result<Joined> join(
    const RendezvousOptions& options,
    const NodeHello& self,
    const std::function<bool()>& stopped,
    const std::function<void(const std::string& what)>& on_waiting
);

}  // namespace pleiad::comm
