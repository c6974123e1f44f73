#pragma once

#include <cstdint>

#include "api/generation.h"
#include "api/generation_wire.h"
#include "base/id.h"
#include "router/worker_table.h"

namespace pleiad::router {

// One try of one request on one unit. Never used again.
using AttemptId = Id<struct AttemptTag, std::uint64_t>;

// What RouterCore asks of the network. What comes of it is told by RouterCore's on_... members,
// never from inside these calls.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  // Sends a request to the worker as it was started when it last reported: another start refuses it
  // with Unavailable. `message` lives for the call only.
  virtual void send(AttemptId attempt, const Worker& worker, const api::SubmitMessage& message) = 0;
  // The attempt is over for the router: the worker stops, and nothing more is told of it. Follows
  // every send(), the attempts that ended by themselves too.
  virtual void hang_up(AttemptId attempt) = 0;
  // Tells the worker that the output of the request it knows as `remote` is complete. Its end is
  // told as ever; on_broken when the worker, in that start, can not be reached.
  virtual void finish(AttemptId attempt, const Worker& worker, api::RequestId remote) = 0;
};

}  // namespace pleiad::router
