#include "router/policy.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/check.h"
#include "base/hash.h"
#include "base/spelling.h"

namespace pleiad::router {
namespace {

struct Name {
  PolicyKind kind;
  std::string_view name;
};
constexpr std::array kNames = {
    Name{PolicyKind::CacheAware, "cache_aware"},
    Name{PolicyKind::PowerOfTwo, "power_of_two"},
    Name{PolicyKind::LeastTokens, "least_tokens"},
    Name{PolicyKind::RoundRobin, "round_robin"},
    Name{PolicyKind::Random, "random"},
};

constexpr std::int64_t kNobody = std::numeric_limits<std::int64_t>::max();

// Of the eligible units; kNobody: there is none.
std::int64_t least_tokens(const PolicyInput& input) {
  const std::span<const std::int64_t> tokens = input.loads->tokens();
  std::int64_t least = kNobody;
  for (std::size_t unit = 0; unit < tokens.size(); ++unit) {
    least = std::min(least, input.eligible[unit] != 0 ? tokens[unit] : kNobody);
  }
  return least;
}

}  // namespace

Result<PolicyKind> parse_policy(std::string_view name) {
  std::array<std::string_view, kNames.size()> known;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (kNames[i].name == name) return kNames[i].kind;
    known[i] = kNames[i].name;
  }
  return invalid_input(
      "policy {} is none; nearest: {} (known: {})", name, nearest_word(name, known), listed(known)
  );
}

std::string_view to_string(PolicyKind kind) {
  return std::ranges::find(kNames, kind, &Name::kind)->name;
}

std::string_view to_string(ChoiceReason reason) {
  switch (reason) {
    case ChoiceReason::Session:
      return "session";
    case ChoiceReason::Cached:
      return "cached";
    case ChoiceReason::LeastBusy:
      return "least_busy";
    case ChoiceReason::Drawn:
      return "drawn";
    case ChoiceReason::Turn:
      return "turn";
  }
  return "";
}

std::optional<Choice> Policy::choose(const PolicyInput& input) {
  PLEIAD_CHECK(input.eligible.size() == input.loads->units());
  PLEIAD_CHECK(input.overlap.size() >= input.loads->units());
  const std::int64_t least = least_tokens(input);
  if (least == kNobody) return std::nullopt;
  if (!input.session.empty()) {
    if (const auto chosen = of_session(input, least)) return chosen;
  }
  switch (options_.kind) {
    case PolicyKind::CacheAware:
      return cached(input, least);
    case PolicyKind::PowerOfTwo:
      return drawn(input, 2);
    case PolicyKind::LeastTokens:
      return least_busy(input, least);
    case PolicyKind::RoundRobin:
      return next_in_turn(input);
    case PolicyKind::Random:
      return drawn(input, 1);
  }
  return std::nullopt;
}

bool Policy::too_busy(UnitIndex unit, const PolicyInput& input) const {
  return input.loads->tokens()[unit] > busy_bound(least_tokens(input));
}

std::int64_t Policy::busy_bound(std::int64_t least) const {
  const double bound = options_.balance_relative * static_cast<double>(least) +
                       static_cast<double>(options_.balance_tokens);
  return static_cast<std::int64_t>(std::min(bound, 0x1p62));
}

// Rendezvous hashing: a unit that comes or goes moves only the sessions that were, or become, its
// own (Thaler and Ravishankar, 1998).
std::optional<Choice> Policy::of_session(const PolicyInput& input, std::int64_t least) const {
  const std::uint64_t session = hash64(input.session);
  std::optional<UnitIndex> best;
  std::uint64_t best_rank = 0;
  for (UnitIndex unit = 0; unit < input.eligible.size(); ++unit) {
    if (input.eligible[unit] == 0) continue;
    const std::uint64_t rank = hash64(std::as_bytes(std::span(&unit, 1)), session);
    if (!best || rank > best_rank) {
      best = unit;
      best_rank = rank;
    }
  }
  if (!best || input.loads->tokens()[*best] > busy_bound(least)) return std::nullopt;
  return Choice{*best, ChoiceReason::Session, expected_hit(input, *best)};
}

// The work that is ahead of the request's first token there: what waits, and what its prompt lacks.
// Held tokens slow every step a little.
Choice Policy::cached(const PolicyInput& input, std::int64_t least) {
  constexpr std::int64_t kHeldShare = 16;  // tokens in the cache that cost a step what one row does
  const std::int64_t bound = busy_bound(least);
  const std::span<const std::int64_t> tokens = input.loads->tokens();
  std::int64_t best_cost = kNobody;
  UnitIndex best = 0;
  const auto look = [&](UnitIndex begin, UnitIndex end) {
    for (UnitIndex unit = begin; unit < end; ++unit) {
      if (input.eligible[unit] == 0 || tokens[unit] > bound) continue;
      const std::int64_t prefill = input.loads->load(unit).prefill;
      const std::int64_t cost =
          prefill + (tokens[unit] - prefill) / kHeldShare - expected_hit(input, unit);
      if (cost >= best_cost) continue;
      best = unit;
      best_cost = cost;
    }
  };
  const auto units = static_cast<UnitIndex>(input.eligible.size());
  look(turn_, units);
  look(0, std::min(turn_, units));
  turn_ = (best + 1) % units;
  const std::int64_t hit = expected_hit(input, best);
  return {best, hit > 0 ? ChoiceReason::Cached : ChoiceReason::LeastBusy, hit};
}

Choice Policy::least_busy(const PolicyInput& input, std::int64_t least) {
  const std::span<const std::int64_t> tokens = input.loads->tokens();
  const auto units = static_cast<UnitIndex>(input.eligible.size());
  UnitIndex best = turn_ % units;
  while (input.eligible[best] == 0 || tokens[best] != least) {
    best = best + 1 == units ? 0 : best + 1;
  }
  turn_ = (best + 1) % units;
  return {best, ChoiceReason::LeastBusy, expected_hit(input, best)};
}

// The least busy of so many draws.
Choice Policy::drawn(const PolicyInput& input, int draws) {
  UnitIndex best = random_eligible(input);
  for (int i = 1; i < draws; ++i) {
    const UnitIndex other = random_eligible(input);
    if (input.loads->tokens()[other] < input.loads->tokens()[best]) best = other;
  }
  return {best, ChoiceReason::Drawn, expected_hit(input, best)};
}

Choice Policy::next_in_turn(const PolicyInput& input) {
  const auto units = static_cast<UnitIndex>(input.eligible.size());
  UnitIndex unit = turn_ % units;
  while (input.eligible[unit] == 0) {
    unit = unit + 1 == units ? 0 : unit + 1;
  }
  turn_ = (unit + 1) % units;
  return {unit, ChoiceReason::Turn, expected_hit(input, unit)};
}

UnitIndex Policy::random_eligible(const PolicyInput& input) {
  const auto count = static_cast<std::uint64_t>(
      std::ranges::count_if(input.eligible, [](std::uint8_t is) { return is != 0; })
  );
  std::uint64_t skip = random_.below(count);
  for (UnitIndex unit = 0;; ++unit) {
    if (input.eligible[unit] == 0) continue;
    if (skip-- == 0) return unit;
  }
}

}  // namespace pleiad::router
