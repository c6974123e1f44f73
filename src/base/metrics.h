#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/exposition.h"

namespace pleiad {

// Label pairs of one time series, such as {{"model_name", "fable"}, {"engine", "0"}}.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// A number that only grows. Any thread.
class Counter {
 public:
  void add(double by = 1.0) { value_.fetch_add(by, std::memory_order_relaxed); }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0.0};
};

// A number that goes up and down. Any thread.
class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double by) { value_.fetch_add(by, std::memory_order_relaxed); }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0.0};
};

// Counts observations at or under each bound. Any thread.
class Histogram {
 public:
  // REQUIRES: `bounds` ascending and not empty.
  explicit Histogram(std::span<const double> bounds);
  void observe(double value);

  [[nodiscard]] std::span<const double> bounds() const { return bounds_; }
  // Observations in bucket i alone (not cumulative); the last bucket is above every bound.
  [[nodiscard]] std::uint64_t in_bucket(std::size_t i) const;
  [[nodiscard]] std::uint64_t count() const;
  [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;  // [bounds + 1]
  std::atomic<double> sum_{0.0};
};

// Every metric of one process, for Prometheus' text format. Metrics live as long as the registry;
// asking twice for the same name and labels gives the same object. Asking for one name with two
// types is a broken invariant. Any thread.
class MetricsRegistry {
 public:
  Counter& counter(std::string_view name, std::string_view help, MetricLabels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, MetricLabels labels = {});
  Histogram& histogram(
      std::string_view name,
      std::string_view help,
      std::span<const double> bounds,
      MetricLabels labels = {}
  );

  [[nodiscard]] Exposition collect() const;
  // Of the series that carry the label `name`; families without any are left out.
  [[nodiscard]] Exposition collect_labelled(std::string_view name) const;
  [[nodiscard]] std::string render() const { return to_text(collect()); }

 private:
  struct Series {
    MetricLabels labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::unique_ptr<Histogram> histogram;
  };

  struct Family {
    std::string name;
    std::string help;
    MetricType type = MetricType::Counter;
    std::vector<std::unique_ptr<Series>> series;
  };

  Series&
  series(MetricType type, std::string_view name, std::string_view help, MetricLabels labels);
  static void append(const Family& family, const Series& series, std::string& out);
  template <typename Wanted>
  Exposition collect_if(Wanted wanted) const;  // the series that are `wanted`

  mutable std::mutex mutex_;  // guards families_ and its lists; values are atomics
  std::vector<std::unique_ptr<Family>> families_;
};

}  // namespace pleiad
