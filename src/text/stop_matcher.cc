#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace pleiad::text {
namespace {

std::vector<std::size_t> fallback_table(std::string_view text) {
  std::vector<std::size_t> fallback(text.size() + 1, 0);
  std::size_t length = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) {
      length = fallback[length];
    }
    if (text[i] == text[length]) ++length;
    fallback[i + 1] = length;
  }
  return fallback;
}

}  // namespace

Result<StopMatcher>
StopMatcher::create(std::vector<std::string> strings, const StopOptions& options) {
  if (strings.size() > options.strings_max) {
    return invalid_input(
        "{} stop strings; at most {} are allowed", strings.size(), options.strings_max
    );
  }
  StopMatcher matcher(options);
  for (std::string& text : strings) {
    if (text.empty()) return invalid_input("a stop string is empty");
    if (!is_valid_utf8(text)) return invalid_input("a stop string is not well-formed UTF-8");
    if (text.size() > options.string_bytes_max) {
      return invalid_input(
          "a stop string of {} bytes; at most {} are allowed", text.size(), options.string_bytes_max
      );
    }
    auto fallback = fallback_table(text);
    matcher.stops_.push_back({std::move(text), std::move(fallback), 0});
  }
  return matcher;
}

// Feeds one byte to every stop string and notes the longest that it completes.
void StopMatcher::advance(char byte) {
  for (std::size_t i = 0; i < stops_.size(); ++i) {
    Stop& stop = stops_[i];
    while (stop.progress > 0 && stop.text[stop.progress] != byte) {
      stop.progress = stop.fallback[stop.progress];
    }
    if (stop.text[stop.progress] == byte) ++stop.progress;
    if (stop.progress < stop.text.size()) continue;
    if (!matched_ || stop.text.size() > stops_[*matched_].text.size()) matched_ = i;
  }
}

std::string StopMatcher::push(std::string_view piece) {
  if (matched_) return {};
  for (const char byte : piece) {
    held_.push_back(byte);
    advance(byte);
    if (!matched_) continue;
    const std::size_t hidden = options_.include_stop ? 0 : stops_[*matched_].text.size();
    held_.resize(held_.size() - hidden);
    return std::exchange(held_, {});
  }
  std::size_t keep = 0;
  for (const Stop& stop : stops_) {
    keep = std::max(keep, stop.progress);
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return shown;
}

std::string StopMatcher::finish() {
  return matched_ ? std::string() : std::exchange(held_, {});
}

}  // namespace pleiad::text
