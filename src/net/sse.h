#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/unique_function.h"

// Server-sent events (WHATWG HTML §9.2): writing them, and reading them as they arrive. Pure.
namespace pleiad::net {

struct SseEvent {
  std::string type{};  // empty: the default, "message"
  std::string data{};  // the data lines, joined with LF
  std::string id{};    // empty: none
};

// Appends one event. Each line of the data gets its own data line; CR LF, CR and LF all end a line.
// REQUIRES: no line ends in type and id.
void append_sse_event(const SseEvent& event, std::string& out);
// Appends an event that is only data, such as one JSON chunk or [DONE].
void append_sse_data(std::string_view data, std::string& out);
// Appends a comment, which clients skip: it keeps an idle connection alive. REQUIRES: no line ends.
void append_sse_comment(std::string_view comment, std::string& out);

// Takes a stream of events apart, however its bytes were cut. Ill-formed UTF-8 becomes U+FFFD. An
// event that the stream ends in the middle of is not reported, as the standard says.
class SseParser {
 public:
  // One line, and the data of one event, may have at most `event_bytes_max` bytes.
  explicit SseParser(std::size_t event_bytes_max = 16U << 20U)
      : event_bytes_max_(event_bytes_max) {}

  // Calls `on_event` for each event that `bytes` completes. Fails with Corrupt, for good, when an
  // event is too long.
  Result<void> feed(std::string_view bytes, UniqueFunction<void(const SseEvent&)>& on_event);

 private:
  Result<void> end_line(UniqueFunction<void(const SseEvent&)>& on_event);
  void take_field(std::string_view line);

  std::size_t event_bytes_max_;
  std::string line_;
  SseEvent event_;
  bool has_data_ = false;
  bool after_cr_ = false;
  bool at_start_ = true;  // before the first line, where a byte order mark may stand
  bool failed_ = false;
};

}  // namespace pleiad::net
