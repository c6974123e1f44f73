#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "comm/group.h"

namespace pleiad::comm {

struct LocalGroupOptions {
  std::chrono::milliseconds limit{60'000};  // of one wait for a peer
  int spin = 0;  // rounds of looking before sleeping; 0: sleep at once (small machines)
};

// The ends of a group whose ranks are threads of this process: element r is rank r's. A send is a
// note that names the sender's bytes; the receiver copies them itself, once. The ends share the
// group's state and may be destroyed in any order, by any thread; an end destroyed while peers
// still wait for it breaks the group for them.
std::vector<std::unique_ptr<Group>> make_local_group(Rank size, const LocalGroupOptions& options);

}  // namespace pleiad::comm
