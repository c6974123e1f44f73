#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "api/generation.h"
#include "router/prefix_index.h"

namespace pleiad::router {

// What a request takes of a unit, in tokens.
struct RequestCost {
  std::int64_t prefill = 0;  // prompt tokens to be computed: those not in the unit's cache
  std::int64_t held = 0;     // places in the KV cache: prompt and all that may follow
};

// What the router knows of a unit's load.
struct UnitLoad {
  std::int64_t prefill = 0;   // prompt tokens sent there and not yet answered with a token
  std::int64_t held = 0;      // places in the KV cache that open requests will take
  std::int64_t requests = 0;  // open
  std::int64_t foreign = 0;   // tokens outstanding there that this router did not send

  // One number to compare units by.
  [[nodiscard]] std::int64_t tokens() const { return prefill + held + foreign; }
};

// The router's own account of what it has sent where: exact at the moment of a choice, so that a
// burst spreads before any worker has reported. Entries live as long as their requests, whatever
// health checks say. Not thread-safe.
class LoadLedger {
 public:
  // A request went to the unit.
  void begin(UnitIndex unit, const RequestCost& cost);
  // Its first token came: its prompt is computed.
  void prefilled(UnitIndex unit, const RequestCost& cost);
  // It is over. `prefilled`: whether a token had come.
  void end(UnitIndex unit, const RequestCost& cost, bool prefilled);
  // What the worker says of the unit: what goes beyond the router's own requests came from others.
  void report(UnitIndex unit, const api::GeneratorStatus& status);

  void add_unit();
  [[nodiscard]] const UnitLoad& load(UnitIndex unit) const { return units_[unit]; }
  [[nodiscard]] std::size_t units() const { return units_.size(); }
  // UnitLoad::tokens() of every unit, side by side for those who compare all.
  [[nodiscard]] std::span<const std::int64_t> tokens() const { return tokens_; }

 private:
  void changed(UnitIndex unit) { tokens_[unit] = units_[unit].tokens(); }

  std::vector<UnitLoad> units_;
  std::vector<std::int64_t> tokens_;  // [units]
};

}  // namespace pleiad::router
