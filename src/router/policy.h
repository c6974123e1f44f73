#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "router/load_ledger.h"
#include "router/prefix_index.h"

namespace pleiad::router {

// How a unit is chosen.
//   CacheAware   where most of the prompt is cached, among those that are not much busier than the
//                least busy one
//   PowerOfTwo   the less busy of two drawn at random
//   LeastTokens  the least busy one
enum class PolicyKind { CacheAware, PowerOfTwo, LeastTokens, RoundRobin, Random };

Result<PolicyKind> parse_policy(std::string_view name);
std::string_view to_string(PolicyKind kind);

struct PolicyOptions {
  PolicyKind kind = PolicyKind::CacheAware;
  // CacheAware: a unit may be chosen for its cache while its tokens are at most
  // `balance_relative` times those of the least busy unit plus `balance_tokens`.
  double balance_relative = 1.5;
  std::int64_t balance_tokens = 4096;
};

// What a choice rests on. Spans are by unit.
struct PolicyInput {
  const LoadLedger* loads = nullptr;
  std::span<const std::uint8_t> eligible;  // may be chosen
  std::span<const std::uint32_t> overlap;  // pages of the prompt in the unit's cache (PrefixIndex)
  std::int64_t prompt_tokens = 0;
  // Requests of one session go to one unit while it is not too busy; empty: no session.
  std::string_view session;
};

// Why a unit was chosen, for /route/explain and metrics.
enum class ChoiceReason { Session, Cached, LeastBusy, Drawn, Turn };
inline constexpr std::array kChoiceReasons = {
    ChoiceReason::Session,
    ChoiceReason::Cached,
    ChoiceReason::LeastBusy,
    ChoiceReason::Drawn,
    ChoiceReason::Turn};
std::string_view to_string(ChoiceReason reason);

struct Choice {
  UnitIndex unit = 0;
  ChoiceReason reason = ChoiceReason::LeastBusy;
  std::int64_t cached_tokens = 0;  // expected
};

// Prompt tokens expected in the unit's cache.
inline std::int64_t expected_hit(const PolicyInput& input, UnitIndex unit) {
  return static_cast<std::int64_t>(input.overlap[unit]) * static_cast<std::int64_t>(kPageTokens);
}

// Chooses units. Deterministic but for what is drawn from its seed. Allocates nothing. Not
// thread-safe.
class Policy {
 public:
  Policy(const PolicyOptions& options, std::uint64_t seed) : options_(options), random_(seed) {}

  // None: no unit is eligible.
  std::optional<Choice> choose(const PolicyInput& input);
  // Other rules from the next choice on.
  void set_options(const PolicyOptions& options) { options_ = options; }
  [[nodiscard]] const PolicyOptions& options() const { return options_; }
  // Whether the unit has so much more to do than the least busy one that neither its cache nor a
  // session counts. REQUIRES: a unit is eligible.
  [[nodiscard]] bool too_busy(UnitIndex unit, const PolicyInput& input) const;

 private:
  [[nodiscard]] std::optional<Choice> of_session(const PolicyInput& input, std::int64_t least)
      const;
  [[nodiscard]] Choice cached(const PolicyInput& input, std::int64_t least);
  Choice least_busy(const PolicyInput& input, std::int64_t least);
  Choice drawn(const PolicyInput& input, int draws);
  Choice next_in_turn(const PolicyInput& input);
  UnitIndex random_eligible(const PolicyInput& input);
  // Tokens beyond which a unit is too busy, where the least busy one has `least`.
  [[nodiscard]] std::int64_t busy_bound(std::int64_t least) const;

  PolicyOptions options_;
  Random random_;
  UnitIndex turn_ = 0;  // where the next search begins, so that ties go round
};

}  // namespace pleiad::router
