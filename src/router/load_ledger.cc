#include "router/load_ledger.h"

#include <algorithm>

#include "base/check.h"

namespace pleiad::router {

void LoadLedger::begin(UnitIndex unit, const RequestCost& cost) {
  UnitLoad& load = units_[unit];
  load.prefill += cost.prefill;
  load.held += cost.held;
  ++load.requests;
  changed(unit);
}

void LoadLedger::prefilled(UnitIndex unit, const RequestCost& cost) {
  units_[unit].prefill -= cost.prefill;
  changed(unit);
}

void LoadLedger::end(UnitIndex unit, const RequestCost& cost, bool prefilled) {
  UnitLoad& load = units_[unit];
  if (!prefilled) load.prefill -= cost.prefill;
  load.held -= cost.held;
  --load.requests;
  changed(unit);
  PLEIAD_CHECK(load.requests >= 0 && load.prefill >= 0 && load.held >= 0, "a request ends once");
}

void LoadLedger::report(UnitIndex unit, const api::GeneratorStatus& status) {
  UnitLoad& load = units_[unit];
  load.foreign = std::max<std::int64_t>(0, status.tokens_outstanding - load.held);
  changed(unit);
}

void LoadLedger::add_unit() {
  units_.emplace_back();
  tokens_.push_back(0);
}

}  // namespace pleiad::router
