// usage: load_streams URL PID SECONDS [SEED]
// Keeps 256 chat streams going against the server at URL (process PID) for SECONDS, prints what it
// measured and checked; the last line is "N passed, N failed".
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include <fmt/core.h>

#include "base/random.h"
#include "tests/load/load_run.h"
#include "tests/load/server_probe.h"

namespace pleiad::load_test {
namespace {

class Checks {
 public:
  void expect(bool holds, std::string_view what) {
    fmt::print("{}  {}\n", holds ? "ok  " : "FAIL", what);
    ++(holds ? passed_ : failed_);
  }
  // Prints the sum; the exit code.
  [[nodiscard]] int finish() const {
    fmt::print("{} passed, {} failed\n", passed_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  int passed_ = 0;
  int failed_ = 0;
};

double percentile(const std::vector<double>& ascending, double share) {
  if (ascending.empty()) return 0.0;
  return ascending[static_cast<std::size_t>(share * static_cast<double>(ascending.size() - 1))];
}

void print_figures(const LoadOptions& options, const LoadReport& report) {
  const double streams = static_cast<double>(report.whole + report.aborted);
  fmt::print(
      "{} streams at once for {:.1f} s (seed {}): {} whole, {} aborted by us, {} failed\n"
      "  {:.1f} streams/s, {:.0f} tokens/s, first token p50 {:.0f} ms, p99 {:.0f} ms\n"
      "  resident {:.1f} MiB after a third, {:.1f} MiB at the end\n",
      options.streams,
      report.seconds,
      options.seed,
      report.whole,
      report.aborted,
      report.failures.size(),
      streams / report.seconds,
      static_cast<double>(report.tokens) / report.seconds,
      percentile(report.first_token_ms, 0.5),
      percentile(report.first_token_ms, 0.99),
      static_cast<double>(report.resident_kib_early) / 1024.0,
      static_cast<double>(report.resident_kib_late) / 1024.0
  );
}

int check(const LoadOptions& options, const LoadReport& report) {
  constexpr std::size_t kShown = 10;
  constexpr double kGrowthMax = 1.1;
  for (std::size_t i = 0; i < report.failures.size() && i < kShown; ++i) {
    fmt::print("  {}\n", report.failures[i]);
  }
  const auto free = wait_until_pages_are_free(options.server, std::chrono::seconds{10});
  if (!free.ok()) fmt::print("  {}\n", free.error().message);
  const double early = static_cast<double>(report.resident_kib_early);
  const double late = static_cast<double>(report.resident_kib_late);

  Checks checks;
  checks.expect(report.whole > 0 && report.aborted > 0, "streams ended, and others were aborted");
  checks.expect(report.failures.empty(), "every stream not aborted had finish_reason and [DONE]");
  checks.expect(
      report.compared > 0 && report.differing == 0,
      fmt::format(
          "the same request had the same answer ({} of {} differ)",
          report.differing,
          report.compared
      )
  );
  checks.expect(free.ok(), "no KV page is held afterwards");
  checks.expect(early > 0.0 && late > 0.0 && late < early * kGrowthMax, "memory is flat");
  return checks.finish();
}

template <typename Number>
bool read_number(std::string_view text, Number& out) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
}

int main_of(int argc, char** argv) {
  LoadOptions options;
  options.seed = entropy_seed() % 1'000'000;
  const auto server = net::parse_url(argc > 1 ? argv[1] : "");
  const bool understood =
      (argc == 4 || argc == 5) && server.ok() && read_number(argv[2], options.pid) &&
      read_number(argv[3], options.seconds) && (argc == 4 || read_number(argv[4], options.seed));
  if (!understood) {
    std::fprintf(stderr, "usage: %s URL PID SECONDS [SEED]\n", argv[0]);
    return 2;
  }
  options.server = *server;
  LoadRun load(options);
  const LoadReport report = load.run();
  print_figures(options, report);
  return check(options, report);
}

}  // namespace
}  // namespace pleiad::load_test

int main(int argc, char** argv) {
  return pleiad::load_test::main_of(argc, argv);
}
