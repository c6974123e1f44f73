#pragma once

#include <cstdint>

#include "tests/comm/rank_runner.h"

// What every group must do, whatever it is made of: bodies for run_ranks(), each with its own
// checks. `seed` drives sizes, contents and order, the same on every rank.
namespace pleiad::comm {

// Every collective, over sizes from nothing to some hundred KiB.
void collectives_hold(Group& group, std::uint64_t seed, Findings& findings);
// Lanes and collectives of `bytes` bytes.
void large_messages_arrive(Group& group, std::size_t bytes, Findings& findings);
// Messages between all pairs, of random sizes, waited for in random order, polled in between.
void interleavings_arrive(Group& group, std::uint64_t seed, Findings& findings);
// Two exchanges overlap; the first one's sends are waited for alone.
void sends_are_waited_for_up_to_a_mark(Group& group, Findings& findings);
// Receives that were offered complete while their rank waits for something else.
void offered_receives_let_senders_go(Group& group, Findings& findings);
// A sender that runs far ahead of its receiver with small and empty messages loses none.
void short_messages_queue_up(Group& group, Findings& findings);
// Rank 0 hands out work by messages; the others sleep for it.
void messages_wake_sleepers(Group& group, Findings& findings);
void interrupts_wake_sleepers(Group& group, Findings& findings);
// One-sided writes, their counts, their order and their refusals.
void puts_land(Group& group, std::uint64_t seed, Findings& findings);
void traffic_is_counted(Group& group, Findings& findings);

}  // namespace pleiad::comm
