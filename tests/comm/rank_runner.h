#pragma once

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "comm/group.h"

namespace pleiad::comm {

// Where the ranks of a test live and over what they talk.
struct Transport {
  enum class Kind { Local, UcxThreads, UcxProcesses };

  std::string name;
  Kind kind = Kind::Local;
  std::string ucx_transports;  // UCX_TLS
  int spin = 0;
};

void PrintTo(const Transport& transport, std::ostream* out);

// What one rank found wrong; empty when nothing was.
class Findings {
 public:
  // False when `right` is not.
  template <typename... Args>
  bool expect(bool right, fmt::format_string<Args...> format, Args&&... args) {
    if (!right && text_.size() < kTextMax) {
      text_ += fmt::format(format, std::forward<Args>(args)...) + "; ";
    }
    return right;
  }
  bool expect(const Result<void>& result);
  // An error of `kind` whose message holds all of `words`.
  bool
  expect_error(const Result<void>& result, ErrorKind kind, const std::vector<std::string>& words);

  [[nodiscard]] const std::string& text() const { return text_; }

  static constexpr std::size_t kTextMax = 2000;

 private:
  std::string text_;
};

using RankBody = std::function<void(Group&, Findings&)>;

struct RankRun {
  Transport transport;
  Rank size = 2;
  std::chrono::milliseconds limit{20'000};
};

// Runs `body` on every rank of a fresh group, in threads or in forked processes, and returns what
// each found: [size]. A process that ended otherwise says how.
std::vector<std::string> run_ranks(const RankRun& run, const RankBody& body);

}  // namespace pleiad::comm
