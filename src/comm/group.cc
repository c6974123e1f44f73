#include "comm/group.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace pleiad::comm {
namespace {

std::size_t index_of(Rank rank) {
  return static_cast<std::size_t>(rank);
}

void copy_bytes(std::span<const std::byte> from, std::span<std::byte> to) {
  if (!from.empty() && from.data() != to.data()) std::memcpy(to.data(), from.data(), from.size());
}

// The peer that is `distance` ranks ahead, around the ring.
Rank ahead(const Group& group, Rank distance) {
  return (group.rank() + distance) % group.size();
}

Rank behind(const Group& group, Rank distance) {
  return (group.rank() + group.size() - distance) % group.size();
}

// A message whose length must be what every rank agreed on.
Result<void> receive_exactly(Group& group, Rank peer, std::size_t bytes, std::string_view step) {
  PLEIAD_TRY(size, group.wait_receive(peer, step));
  if (size == bytes) return {};
  auto out_of_step = corrupt(
      "{}: rank {} expected {} bytes of rank {}, which sent {}: the ranks are out of step",
      step,
      group.rank(),
      bytes,
      peer,
      size
  );
  group.abort(out_of_step);
  return out_of_step;
}

// rows [ranks, n]: row 0 becomes the sum of all along the binary tree whose leaves are the ranks in
// order; where a child is missing the other passes through.
void add_along_tree(std::span<float> rows, std::size_t ranks, std::size_t n) {
  for (std::size_t stride = 1; stride < ranks; stride *= 2) {
    for (std::size_t left = 0; left + stride < ranks; left += 2 * stride) {
      float* sum = rows.data() + left * n;
      const float* other = sum + stride * n;
      for (std::size_t i = 0; i < n; ++i) {
        sum[i] += other[i];
      }
    }
  }
}

}  // namespace

Result<std::size_t> Group::receive(Rank peer, std::span<std::byte> buffer, std::string_view step) {
  post_receive(peer, buffer);
  return wait_receive(peer, step);
}

// Dissemination (Hensgen, Finkel, Manber 1988): after round k every rank has heard, directly or
// not, of the 2^k ranks behind it.
Result<void> Group::barrier(std::string_view step) {
  for (Rank distance = 1; distance < size(); distance *= 2) {
    const Rank from = behind(*this, distance);
    post_receive(from, {});
    send(ahead(*this, distance), {});
    PLEIAD_TRY(receive_exactly(*this, from, 0, step));
  }
  return wait_sends(step);
}

// A binomial tree rooted at `root`: a rank receives from the one that differs in its lowest set
// bit, then serves those below that bit.
Result<void> Group::broadcast(Rank root, std::span<std::byte> bytes, std::string_view step) {
  PLEIAD_CHECK(root >= 0 && root < size(), "the root is a rank of the group");
  const Rank place = (rank() + size() - root) % size();
  Rank bit = 1;
  while (bit < size() && (place & bit) == 0) {
    bit *= 2;
  }
  if (place != 0) {
    const Rank from = (place - bit + root) % size();
    post_receive(from, bytes);
    PLEIAD_TRY(receive_exactly(*this, from, bytes.size(), step));
  }
  for (Rank below = bit / 2; below > 0; below /= 2) {
    if (place + below < size()) send((place + below + root) % size(), bytes);
  }
  return wait_sends(step);
}

Result<void> Group::all_gather(
    std::span<const std::byte> mine,
    std::span<std::byte> all,
    std::string_view step
) {
  PLEIAD_CHECK(all.size() == mine.size() * index_of(size()), "all is [size, n]");
  const auto part = [&](Rank of) { return all.subspan(index_of(of) * mine.size(), mine.size()); };
  for (Rank distance = 1; distance < size(); ++distance) {
    const Rank from = behind(*this, distance);
    post_receive(from, part(from));
    send(ahead(*this, distance), mine);
  }
  copy_bytes(mine, part(rank()));
  for (Rank distance = 1; distance < size(); ++distance) {
    PLEIAD_TRY(receive_exactly(*this, behind(*this, distance), mine.size(), step));
  }
  return wait_sends(step);
}

Result<void>
Group::reduce_scatter(std::span<const float> rows, std::span<float> sum, std::string_view step) {
  const std::size_t n = sum.size();
  const std::size_t ranks = index_of(size());
  PLEIAD_CHECK(rows.size() == n * ranks, "rows is [size, n]");
  if (rows_.size() < n * ranks) rows_.resize(n * ranks);
  const std::span<float> received(rows_.data(), n * ranks);
  for (Rank distance = 1; distance < size(); ++distance) {
    const Rank from = behind(*this, distance);
    const Rank to = ahead(*this, distance);
    post_receive(from, std::as_writable_bytes(received.subspan(index_of(from) * n, n)));
    send(to, std::as_bytes(rows.subspan(index_of(to) * n, n)));
  }
  const std::size_t mine = index_of(rank()) * n;
  std::copy_n(rows.data() + mine, n, received.data() + mine);
  for (Rank distance = 1; distance < size(); ++distance) {
    PLEIAD_TRY(receive_exactly(*this, behind(*this, distance), n * sizeof(float), step));
  }
  add_along_tree(received, ranks, n);
  std::copy_n(received.data(), n, sum.data());
  return wait_sends(step);
}

Result<void> Group::all_to_all_v(
    std::span<const std::span<const std::byte>> sends,
    std::span<const std::span<std::byte>> receives,
    std::span<std::size_t> sizes,
    std::string_view step
) {
  const std::size_t ranks = index_of(size());
  const bool one_each = sends.size() == ranks && receives.size() == ranks && sizes.size() == ranks;
  PLEIAD_CHECK(one_each, "one entry per rank");
  for (Rank distance = 1; distance < size(); ++distance) {
    const Rank from = behind(*this, distance);
    const Rank to = ahead(*this, distance);
    post_receive(from, receives[index_of(from)]);
    send(to, sends[index_of(to)]);
  }
  const std::size_t own = index_of(rank());
  PLEIAD_CHECK(sends[own].size() <= receives[own].size(), "the own part fits");
  copy_bytes(sends[own], receives[own]);
  sizes[own] = sends[own].size();
  for (Rank distance = 1; distance < size(); ++distance) {
    const Rank from = behind(*this, distance);
    PLEIAD_TRY(size, wait_receive(from, step));
    sizes[index_of(from)] = size;
  }
  return wait_sends(step);
}

}  // namespace pleiad::comm
