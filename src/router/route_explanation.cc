#include "router/route_explanation.h"

#include <optional>
#include <string>
#include <utility>

#include <fmt/core.h>

namespace pleiad::router {
namespace {

// Why a unit may not be chosen; empty: it may.
std::string why_not(const WorkerTable& table, UnitIndex unit) {
  if (table.eligible()[unit] != 0 || table.prefill_eligible()[unit] != 0) return "";
  const UnitPlace& place = table.place(unit);
  const Worker& worker = table.workers()[place.worker];
  if (worker.state != WorkerState::Ready) {
    const std::string state(to_string(worker.state));
    return worker.reason.empty() ? state : fmt::format("{}: {}", state, worker.reason);
  }
  const auto rank = static_cast<std::size_t>(place.dp_rank);
  return rank < worker.report.ranks.size() ? "it had no room; its next report is awaited"
                                           : "the worker has no such rank any more";
}

Json unit_json(
    const WorkerTable& table,
    const Policy& policy,
    const PolicyInput& input,
    UnitIndex unit
) {
  const UnitPlace& place = table.place(unit);
  const UnitLoad& load = table.loads().load(unit);
  const std::string reason = why_not(table, unit);
  Json out;
  out.set("worker", table.workers()[place.worker].url);
  out.set("dp_rank", place.dp_rank);
  out.set("role", api::to_string(table.workers()[place.worker].report.role));
  out.set("eligible", reason.empty());
  if (!reason.empty()) out.set("why_not", reason);
  out.set("too_busy", input.eligible[unit] != 0 && policy.too_busy(unit, input));
  out.set("open_requests", load.requests);
  out.set("prefill_tokens", load.prefill);
  out.set("held_tokens", load.held);
  out.set("foreign_tokens", load.foreign);
  out.set("cached_tokens", expected_hit(input, unit));
  return out;
}

Json choice_json(const WorkerTable& table, const std::optional<Choice>& choice) {
  if (!choice) return {};
  const UnitPlace& place = table.place(choice->unit);
  Json out;
  out.set("worker", table.workers()[place.worker].url);
  out.set("dp_rank", place.dp_rank);
  out.set("reason", to_string(choice->reason));
  out.set("cached_tokens", choice->cached_tokens);
  return out;
}

// Who would compute the prompt for a decode worker, or why that one computes it itself.
void add_pair(
    const WorkerTable& table,
    const RoutePolicies& policies,
    const Choice& choice,
    PolicyInput input,
    Json& out
) {
  const Worker& decode = table.workers()[table.place(choice.unit).worker];
  if (decode.report.role != api::Role::Decode) return;
  const std::int64_t lacking = input.prompt_tokens - choice.cached_tokens;
  std::optional<Choice> pair;
  std::string why = fmt::format(
      "{} prompt tokens are to be computed, from {} on a prefill worker does it",
      lacking,
      policies.prefill_tokens_min
  );
  if (lacking >= policies.prefill_tokens_min) {
    input.eligible = table.prefill_eligible();
    input.session = {};
    Policy copy = *policies.prefill_policy;
    pair = copy.choose(input);
    if (!pair) why = "no prefill worker is ready";
  }
  out.set("prefill", choice_json(table, pair));
  if (!pair) out.set("why_no_prefill", why);
}

}  // namespace

Json explain_route(
    const WorkerTable& table,
    const RoutePolicies& policies,
    const RouteQuestion& question
) {
  std::vector<std::uint32_t> overlap(table.eligible().size());
  table.prefixes().match(question.keys, overlap);
  const PolicyInput input{
      .loads = &table.loads(),
      .eligible = table.eligible(),
      .overlap = overlap,
      .prompt_tokens = question.prompt_tokens,
      .session = question.session,
  };
  Policy copy = *policies.policy;
  const auto choice = copy.choose(input);
  JsonArray units;
  for (UnitIndex unit = 0; unit < overlap.size(); ++unit) {
    const Worker& worker = table.workers()[table.place(unit).worker];
    if (worker.state == WorkerState::Removed) continue;
    units.push_back(unit_json(table, *policies.policy, input, unit));
  }
  Json out;
  out.set("policy", to_string(policies.policy->options().kind));
  out.set("prompt_tokens", question.prompt_tokens);
  out.set("session", !question.session.empty());
  out.set("choice", choice_json(table, choice));
  if (choice) add_pair(table, policies, *choice, input, out);
  out.set("units", std::move(units));
  return out;
}

}  // namespace pleiad::router
