#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pleiad {

enum class MetricType { Counter, Gauge, Histogram };

// All series of one name, as Prometheus' text format (version 0.0.4) shows them.
struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::Counter;
  std::string samples;  // lines `name{label="value",...} number`, each with its line end

  friend bool operator==(const MetricFamily&, const MetricFamily&) = default;
};

// What a scrape shows. No two families have one name.
using Exposition = std::vector<MetricFamily>;

// The text of a scrape: each family's HELP, TYPE and samples.
std::string to_text(const Exposition& exposition);

// `own` and the samples of `others` behind it, so that all lines of a family stand together; no
// series may be in two of them. A family that has another type than in a text before is left out of
// the later one: a name has one type.
Exposition merged(Exposition own, std::span<const Exposition> others);

// A label that every series must carry, with one of these values.
struct LabelRule {
  std::string_view name;
  std::vector<std::string> values;
};

// Reads what to_text writes, from a process that is not believed: names, labels, numbers and UTF-8
// are checked, since one bad line makes Prometheus drop a whole scrape. Fails with Corrupt for any
// other text, for a family or series that comes twice, and for a series that breaks `rule`.
Result<Exposition> parse_exposition(std::string_view text, const LabelRule& rule);

}  // namespace pleiad
