#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pleiad::text {

struct StopOptions {
  std::size_t strings_max = 16;
  std::size_t string_bytes_max = 4096;
  bool include_stop = false;  // whether the matched string is shown too
};

// Watches text that arrives in pieces for stop strings. The string that is complete first ends the
// text; of those complete at the same byte the longest. How the text is cut into pieces makes no
// difference. Time is linear in the text for each string (Knuth, Morris, Pratt 1977). Not
// thread-safe.
class StopMatcher {
 public:
  // Fails with InvalidInput on an empty, ill-formed or over-long string, or too many of them.
  static Result<StopMatcher>
  create(std::vector<std::string> strings, const StopOptions& options = {});

  // The text that may be shown: what could still become part of a stop string is held back, and
  // nothing of a matched string or behind it is ever given (but see include_stop).
  std::string push(std::string_view piece);

  // What was held back, since no more text comes. Empty after a match.
  std::string finish();

  // The index of the stop string that ended the text.
  [[nodiscard]] std::optional<std::size_t> matched() const { return matched_; }

 private:
  struct Stop {
    std::string text;
    // Per length of a matched prefix: the longest proper prefix that is also its suffix.
    std::vector<std::size_t> fallback;
    std::size_t progress = 0;  // bytes of `text` that the end of the input equals
  };

  explicit StopMatcher(const StopOptions& options) : options_(options) {}
  void advance(char byte);

  StopOptions options_;
  std::vector<Stop> stops_;
  std::string held_;
  std::optional<std::size_t> matched_;
};

}  // namespace pleiad::text
