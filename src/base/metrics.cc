#include "base/metrics.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "base/check.h"
#include "base/utf8.h"

namespace pleiad {
namespace {

// Values come from flags and folders; the text is UTF-8 whatever they are.
void append_escaped(std::string_view text, std::string& out) {
  for (const char c : replace_invalid_utf8(text)) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
}

// `{a="1",b="2"}`, with `extra` (already in the form name="value") last; empty when there is none.
std::string label_text(const MetricLabels& labels, std::string_view extra = {}) {
  std::string out;
  for (const auto& [name, value] : labels) {
    out += out.empty() ? "{" : ",";
    out += name;
    out += "=\"";
    append_escaped(value, out);
    out += '"';
  }
  if (!extra.empty()) {
    out += out.empty() ? "{" : ",";
    out += extra;
  }
  if (!out.empty()) out += '}';
  return out;
}

// As Prometheus writes what is no finite number.
std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0.0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

void append_histogram(
    std::string_view name,
    const MetricLabels& labels,
    const Histogram& histogram,
    std::string& out
) {
  std::uint64_t cumulative = 0;
  const auto bounds = histogram.bounds();
  for (std::size_t i = 0; i <= bounds.size(); ++i) {
    cumulative += histogram.in_bucket(i);
    const std::string bound = i < bounds.size() ? fmt::format("{}", bounds[i]) : "+Inf";
    const std::string text = label_text(labels, fmt::format("le=\"{}\"", bound));
    out += fmt::format("{}_bucket{} {}\n", name, text, cumulative);
  }
  out += fmt::format("{}_sum{} {}\n", name, label_text(labels), number_text(histogram.sum()));
  out += fmt::format("{}_count{} {}\n", name, label_text(labels), cumulative);
}

}  // namespace

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()),
      counts_(std::make_unique<std::atomic<std::uint64_t>[]>(bounds.size() + 1)) {
  PLEIAD_CHECK(!bounds_.empty() && std::is_sorted(bounds_.begin(), bounds_.end()));
}

void Histogram::observe(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  const auto bucket = static_cast<std::size_t>(at - bounds_.begin());
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

std::uint64_t Histogram::in_bucket(std::size_t i) const {
  PLEIAD_CHECK(i <= bounds_.size());
  return counts_[i].load(std::memory_order_relaxed);
}

std::uint64_t Histogram::count() const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i <= bounds_.size(); ++i) {
    total += in_bucket(i);
  }
  return total;
}

MetricsRegistry::Series& MetricsRegistry::series(
    MetricType type,
    std::string_view name,
    std::string_view help,
    MetricLabels labels
) {
  const auto named = [name](const auto& family) { return family->name == name; };
  auto family = std::find_if(families_.begin(), families_.end(), named);
  if (family == families_.end()) {
    families_.push_back(std::make_unique<Family>());
    family = std::prev(families_.end());
    (*family)->name = name;
    (*family)->help = help;
    (*family)->type = type;
  }
  PLEIAD_CHECK((*family)->type == type, "one metric name, two types");
  auto& all = (*family)->series;
  const auto same = [&labels](const auto& entry) { return entry->labels == labels; };
  if (const auto found = std::find_if(all.begin(), all.end(), same); found != all.end()) {
    return **found;
  }
  all.push_back(std::make_unique<Series>());
  all.back()->labels = std::move(labels);
  return *all.back();
}

Counter&
MetricsRegistry::counter(std::string_view name, std::string_view help, MetricLabels labels) {
  const std::scoped_lock lock(mutex_);
  Series& entry = series(MetricType::Counter, name, help, std::move(labels));
  if (!entry.counter) entry.counter = std::make_unique<Counter>();
  return *entry.counter;
}

Gauge& MetricsRegistry::gauge(std::string_view name, std::string_view help, MetricLabels labels) {
  const std::scoped_lock lock(mutex_);
  Series& entry = series(MetricType::Gauge, name, help, std::move(labels));
  if (!entry.gauge) entry.gauge = std::make_unique<Gauge>();
  return *entry.gauge;
}

Histogram& MetricsRegistry::histogram(
    std::string_view name,
    std::string_view help,
    std::span<const double> bounds,
    MetricLabels labels
) {
  const std::scoped_lock lock(mutex_);
  Series& entry = series(MetricType::Histogram, name, help, std::move(labels));
  if (!entry.histogram) entry.histogram = std::make_unique<Histogram>(bounds);
  return *entry.histogram;
}

void MetricsRegistry::append(const Family& family, const Series& series, std::string& out) {
  if (series.histogram) {
    append_histogram(family.name, series.labels, *series.histogram, out);
    return;
  }
  const double value = series.counter ? series.counter->value() : series.gauge->value();
  out += fmt::format("{}{} {}\n", family.name, label_text(series.labels), number_text(value));
}

Exposition MetricsRegistry::collect() const {
  return collect_if([](const Series&) { return true; });
}

Exposition MetricsRegistry::collect_labelled(std::string_view name) const {
  return collect_if([name](const Series& series) {
    const auto named = [name](const auto& label) { return label.first == name; };
    return std::ranges::any_of(series.labels, named);
  });
}

template <typename Wanted>
Exposition MetricsRegistry::collect_if(Wanted wanted) const {
  const std::scoped_lock lock(mutex_);
  Exposition out;
  for (const auto& family : families_) {
    std::string samples;
    for (const auto& entry : family->series) {
      if (wanted(*entry)) append(*family, *entry, samples);
    }
    if (samples.empty()) continue;
    out.push_back({
        .name = family->name,
        .help = family->help,
        .type = family->type,
        .samples = std::move(samples),
    });
  }
  return out;
}

}  // namespace pleiad
