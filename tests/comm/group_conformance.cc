#include "tests/comm/group_conformance.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "base/random.h"

namespace pleiad::comm {
namespace {

using Bytes = std::vector<std::byte>;

std::size_t index_of(Rank rank) {
  return static_cast<std::size_t>(rank);
}

// Bytes that say who sent them to whom, and which message they are.
Bytes pattern(Rank from, Rank to, std::uint64_t number, std::size_t size) {
  Bytes bytes(size);
  std::uint64_t word = number * 0x9E3779B97F4A7C15U + index_of(from) * 31U + index_of(to) * 1009U;
  for (std::byte& byte : bytes) {
    word = word * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<std::byte>(word >> 56U);
  }
  return bytes;
}

void broadcasts_hold(Group& group, Random& random, std::size_t n, Findings& findings) {
  const auto root = static_cast<Rank>(random.below(index_of(group.size())));
  const Bytes wanted = pattern(root, root, n, n);
  Bytes bytes = group.rank() == root ? wanted : Bytes(n);
  if (!findings.expect(group.broadcast(root, bytes, "broadcast"))) return;
  findings.expect(bytes == wanted, "broadcast of {} bytes from {}", n, root);
}

void gathers_hold(Group& group, std::size_t n, Findings& findings) {
  Bytes all(n * index_of(group.size()));
  if (!findings.expect(group.all_gather(pattern(group.rank(), 0, n, n), all, "gather"))) return;
  Bytes wanted;
  for (Rank rank = 0; rank < group.size(); ++rank) {
    const Bytes part = pattern(rank, 0, n, n);
    wanted.insert(wanted.end(), part.begin(), part.end());
  }
  findings.expect(all == wanted, "gather of {} bytes", n);
}

// Addends of such different sizes that any other order of additions shows.
float addend(Rank from, Rank to, std::size_t i) {
  const auto mixed =
      static_cast<float>((index_of(from) * 7919U + index_of(to) * 104729U + i) % 997U);
  return mixed * (from % 3 == 1 ? 1e-5F : 1e3F) + 0.1F;
}

float tree_sum(Rank begin, Rank end, Rank size, Rank to, std::size_t i) {
  if (end - begin == 1) return addend(begin, to, i);
  const Rank middle = begin + (end - begin) / 2;
  const float left = tree_sum(begin, middle, size, to, i);
  return middle < size ? left + tree_sum(middle, end, size, to, i) : left;
}

void reductions_hold(Group& group, std::size_t n, Findings& findings) {
  std::vector<float> rows;
  for (Rank to = 0; to < group.size(); ++to) {
    for (std::size_t i = 0; i < n; ++i) {
      rows.push_back(addend(group.rank(), to, i));
    }
  }
  std::vector<float> sum(n);
  if (!findings.expect(group.reduce_scatter(rows, sum, "reduce"))) return;
  Rank leaves = 1;
  while (leaves < group.size()) {
    leaves *= 2;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const float wanted = tree_sum(0, leaves, group.size(), group.rank(), i);
    if (!findings.expect(sum[i] == wanted, "reduce: [{}] {} is not {}", i, sum[i], wanted)) return;
  }
}

void exchanges_hold(Group& group, Random& random, std::size_t n, Findings& findings) {
  const std::size_t ranks = index_of(group.size());
  std::vector<std::size_t> lengths(ranks * ranks);  // [from, to]
  for (std::size_t& length : lengths) {
    length = random.below(n + 1);
  }
  const auto length_of = [&](Rank from, Rank to) {
    return lengths[index_of(from) * ranks + index_of(to)];
  };
  std::vector<Bytes> out;
  std::vector<Bytes> in(ranks, Bytes(n));
  for (Rank to = 0; to < group.size(); ++to) {
    out.push_back(pattern(group.rank(), to, n, length_of(group.rank(), to)));
  }
  const std::vector<std::span<const std::byte>> sends(out.begin(), out.end());
  const std::vector<std::span<std::byte>> receives(in.begin(), in.end());
  std::vector<std::size_t> sizes(ranks);
  if (!findings.expect(group.all_to_all_v(sends, receives, sizes, "exchange"))) return;
  for (Rank from = 0; from < group.size(); ++from) {
    in[index_of(from)].resize(sizes[index_of(from)]);
    const Bytes wanted = pattern(from, group.rank(), n, length_of(from, group.rank()));
    findings.expect(in[index_of(from)] == wanted, "exchange of {} bytes with {}", n, from);
  }
}

// The messages of one round of interleavings_arrive(): [from, to] -> sizes.
std::vector<std::vector<std::size_t>> plan_round(Random& random, std::size_t ranks) {
  std::vector<std::vector<std::size_t>> lanes(ranks * ranks);
  for (auto& lane : lanes) {
    lane.resize(random.below(Group::kPostedMax + 1));
    for (std::size_t& size : lane) {
      const std::size_t classes[] = {1, 200, 5'000, 70'000, 300'000};
      size = random.below(classes[random.below(5)]);
    }
  }
  return lanes;
}

void interleave_round(Group& group, Random& random, Random& own, Findings& findings) {
  const std::size_t ranks = index_of(group.size());
  const auto lanes = plan_round(random, ranks);
  const auto lane = [&](Rank from, Rank to) {
    return lanes[index_of(from) * ranks + index_of(to)];
  };
  std::vector<std::vector<Bytes>> in(ranks);
  std::vector<Bytes> out;
  std::vector<Rank> to_wait;
  for (Rank peer = 0; peer < group.size(); ++peer) {
    if (peer == group.rank()) continue;
    for (const std::size_t size : lane(peer, group.rank())) {
      in[index_of(peer)].emplace_back(size + own.below(2));
      group.post_receive(peer, in[index_of(peer)].back());
      to_wait.push_back(peer);
    }
    const auto sizes = lane(group.rank(), peer);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      out.push_back(pattern(group.rank(), peer, i, sizes[i]));
      group.send(peer, out.back());
      if (own.below(4) == 0) group.poll();
    }
  }
  for (std::size_t i = to_wait.size(); i > 1; --i) {
    std::swap(to_wait[i - 1], to_wait[own.below(i)]);
  }
  std::vector<std::size_t> seen(ranks);
  for (const Rank peer : to_wait) {
    const auto size = group.wait_receive(peer, "interleaving");
    if (!findings.expect(size.ok(), "{}", size.ok() ? "" : size.error().message)) return;
    const std::size_t number = seen[index_of(peer)]++;
    Bytes& got = in[index_of(peer)][number];
    got.resize(*size);
    const auto wanted = pattern(peer, group.rank(), number, lane(peer, group.rank())[number]);
    findings.expect(got == wanted, "message {} of {}: {} bytes", number, peer, *size);
  }
  findings.expect(group.wait_sends("interleaving"));
}

}  // namespace

void collectives_hold(Group& group, std::uint64_t seed, Findings& findings) {
  Random random(seed);
  for (const std::size_t n : {0U, 1U, 7U, 192U, 193U, 4'096U, 9'001U, 100'000U}) {
    findings.expect(group.barrier("barrier"));
    broadcasts_hold(group, random, n, findings);
    gathers_hold(group, n, findings);
    reductions_hold(group, std::min<std::size_t>(n, 9'001), findings);
    exchanges_hold(group, random, n, findings);
    if (!findings.text().empty()) return;
  }
}

void large_messages_arrive(Group& group, std::size_t bytes, Findings& findings) {
  Random random(bytes);
  broadcasts_hold(group, random, bytes, findings);
  gathers_hold(group, bytes, findings);
  exchanges_hold(group, random, bytes, findings);
}

void interleavings_arrive(Group& group, std::uint64_t seed, Findings& findings) {
  Random random(seed);
  Random own(seed + 1 + index_of(group.rank()));
  for (int round = 0; round < 10 && findings.text().empty(); ++round) {
    interleave_round(group, random, own, findings);
  }
}

void sends_are_waited_for_up_to_a_mark(Group& group, Findings& findings) {
  constexpr std::size_t kBytes = 200'000;
  const Rank peer = group.rank() ^ 1;
  const Bytes first = pattern(group.rank(), peer, 1, kBytes);
  const Bytes second = pattern(group.rank(), peer, 2, kBytes);
  Bytes got(kBytes);
  group.send(peer, first);
  const std::uint64_t mark = group.sends();
  group.send(peer, second);

  // Nobody has offered a buffer for the second message when the first one's bytes come back.
  findings.expect(group.receive(peer, got, "first").ok(), "first did not arrive");
  findings.expect(got == pattern(peer, group.rank(), 1, kBytes), "first is not what was sent");
  findings.expect(group.wait_sends("first", mark));

  findings.expect(group.receive(peer, got, "second").ok(), "second did not arrive");
  findings.expect(got == pattern(peer, group.rank(), 2, kBytes), "second is not what was sent");
  findings.expect(group.wait_sends("second"));
}

void offered_receives_let_senders_go(Group& group, Findings& findings) {
  constexpr std::size_t kBytes = 1U << 20U;
  const Rank peer = group.rank() ^ 1;
  const Bytes mine = pattern(group.rank(), peer, 3, kBytes);
  Bytes got(kBytes);
  group.post_receive(peer, got);
  group.send(peer, mine);

  // Both wait for their sends before either waits for its message.
  findings.expect(group.wait_sends("sends first"));
  findings.expect(group.wait_receive(peer, "then the message").ok(), "nothing arrived");
  findings.expect(got == pattern(peer, group.rank(), 3, kBytes), "not what was sent");
}

void messages_wake_sleepers(Group& group, Findings& findings) {
  for (std::uint64_t round = 0; round < 20; ++round) {
    const Bytes work = pattern(0, 0, round, 10 + round * 1'000);
    Bytes got(work.size());
    if (group.rank() == 0) {
      for (Rank peer = 1; peer < group.size(); ++peer) {
        group.send(peer, work);
      }
    } else {
      const auto wake = group.wait_for_message();
      if (!findings.expect(wake.ok(), "{}", wake.ok() ? "" : wake.error().message)) return;
      findings.expect(*wake == Group::Wake::Message, "woken without a message");
      if (!findings.expect(group.receive(0, got, "work").ok(), "no work")) return;
      findings.expect(got == work, "other work than was sent");
    }
    findings.expect(group.wait_sends("work"));
    if (!findings.expect(group.barrier("end of the round"))) return;
  }
}

void short_messages_queue_up(Group& group, Findings& findings) {
  constexpr std::size_t kMessages = 1'000;
  const Rank peer = group.rank() ^ 1;
  std::vector<Bytes> out;
  for (std::size_t i = 0; i < kMessages; ++i) {
    out.push_back(pattern(group.rank(), peer, i, i % 5));
  }
  for (const Bytes& message : out) {
    group.send(peer, message);
  }
  for (std::size_t i = 0; i < kMessages; ++i) {
    Bytes got(4);
    const auto size = group.receive(peer, got, "queue");
    if (!findings.expect(size.ok(), "{}", size.ok() ? "" : size.error().message)) return;
    got.resize(*size);
    if (!findings.expect(got == pattern(peer, group.rank(), i, i % 5), "message {}", i)) return;
  }
  findings.expect(group.wait_sends("queue"));
}

// Rank 0 is interrupted; the others keep silent until it is done.
void interrupts_wake_sleepers(Group& group, Findings& findings) {
  if (group.rank() != 0) {
    findings.expect(group.receive(0, {}, "the others' turn").ok(), "nothing of rank 0");
    findings.expect(group.barrier("the group goes on"));
    return;
  }
  group.interrupt();
  for (int round = 0; round < 20; ++round) {
    // The interrupt came first.
    const auto early = group.wait_for_message();
    if (!findings.expect(early.ok(), "{}", early.ok() ? "" : early.error().message)) return;
    findings.expect(*early == Group::Wake::Interrupted, "no interrupt");
    // The interrupt comes while asleep, or before.
    std::thread interrupter([&] { group.interrupt(); });
    const auto late = group.wait_for_message();
    interrupter.join();
    if (!findings.expect(late.ok(), "{}", late.ok() ? "" : late.error().message)) return;
    findings.expect(*late == Group::Wake::Interrupted, "no interrupt");
    group.interrupt();
  }
  findings.expect(group.wait_for_message().ok(), "the last interrupt");
  for (Rank peer = 1; peer < group.size(); ++peer) {
    group.send(peer, {});
  }
  findings.expect(group.barrier("the group goes on"));
}

void puts_land(Group& group, std::uint64_t seed, Findings& findings) {
  constexpr std::size_t kPart = 100'000;
  const std::size_t ranks = index_of(group.size());
  Bytes memory(kPart * ranks);
  Bytes nothing;
  const auto small = group.open_window(nothing, "an empty window");
  const auto window = group.open_window(memory, "a window");
  if (!findings.expect(small.ok() && window.ok(), "windows did not open")) return;
  Random random(seed);
  for (std::uint64_t round = 1; round <= 12; ++round) {
    const std::size_t n = random.below(round % 3 == 0 ? kPart : 64);
    std::vector<Bytes> out;
    for (Rank distance = 1; distance < group.size(); ++distance) {
      const Rank peer = (group.rank() + distance) % group.size();
      out.push_back(pattern(group.rank(), peer, round, n));
      if (!findings.expect(group.put(peer, *window, kPart * index_of(group.rank()), out.back()))) {
        return;
      }
    }
    findings.expect(group.wait_puts("puts"));
    for (Rank peer = 0; peer < group.size(); ++peer) {
      if (peer == group.rank()) continue;
      if (!findings.expect(group.wait_put_from(peer, *window, round, "puts"))) return;
      const auto got = std::span(memory).subspan(kPart * index_of(peer), n);
      const Bytes wanted = pattern(peer, group.rank(), round, n);
      findings.expect(
          std::equal(got.begin(), got.end(), wanted.begin(), wanted.end()), "put of {}", peer
      );
    }
    if (!findings.expect(group.barrier("everybody has looked"))) return;
  }
  if (group.size() == 1) return;
  const Rank peer = (group.rank() + 1) % group.size();
  const Bytes two(2);
  findings.expect_error(
      group.put(peer, *window, memory.size() - 1, two), ErrorKind::InvalidInput, {"window"}
  );
  findings.expect_error(group.put(peer, *small, 0, two), ErrorKind::InvalidInput, {"window"});
  findings.expect(group.barrier("a refused put breaks nothing"));
}

void traffic_is_counted(Group& group, Findings& findings) {
  const Traffic before = group.traffic();
  Bytes all(1'000 * index_of(group.size()));
  findings.expect(group.all_gather(Bytes(1'000), all, "gather"));
  const Traffic after = group.traffic();
  const std::uint64_t others = index_of(group.size() - 1);
  findings.expect(after.bytes_sent - before.bytes_sent == 1'000 * others, "bytes sent");
  findings.expect(after.bytes_received - before.bytes_received == 1'000 * others, "bytes received");
  findings.expect(after.messages_sent - before.messages_sent == others, "messages sent");
  findings.expect(after.messages_received - before.messages_received == others, "received");
}

}  // namespace pleiad::comm
