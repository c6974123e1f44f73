#include "net/sse.h"

#include <utility>

#include "base/utf8.h"

namespace pleiad::net {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string well_formed(std::string text) {
  return is_valid_utf8(text) ? std::move(text) : replace_invalid_utf8(text);
}

void append_data_lines(std::string_view data, std::string& out) {
  while (true) {
    const std::size_t end = data.find_first_of("\r\n");
    out.append("data: ").append(data.substr(0, end)).push_back('\n');
    if (end == std::string_view::npos) return;
    data.remove_prefix(data.substr(end, 2) == "\r\n" ? end + 2 : end + 1);
  }
}

bool is_one_line(std::string_view text) {
  return text.find_first_of("\r\n") == std::string_view::npos;
}

}  // namespace

void append_sse_event(const SseEvent& event, std::string& out) {
  PLEIAD_CHECK(
      is_one_line(event.type) && is_one_line(event.id), "an event's type and id are one line"
  );
  if (!event.type.empty()) out.append("event: ").append(event.type).push_back('\n');
  if (!event.id.empty()) out.append("id: ").append(event.id).push_back('\n');
  append_data_lines(event.data, out);
  out.push_back('\n');
}

void append_sse_data(std::string_view data, std::string& out) {
  append_data_lines(data, out);
  out.push_back('\n');
}

void append_sse_comment(std::string_view comment, std::string& out) {
  PLEIAD_CHECK(is_one_line(comment), "a comment is one line");
  out.append(": ").append(comment).append("\n\n");
}

void SseParser::take_field(std::string_view line) {
  const std::size_t colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  std::string_view value;
  if (colon != std::string_view::npos) value = line.substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (name == "data") {
    if (has_data_) event_.data.push_back('\n');
    event_.data.append(value);
    has_data_ = true;
  } else if (name == "event") {
    event_.type = value;
  } else if (name == "id" && value.find('\0') == std::string_view::npos) {
    event_.id = value;
  }
}

Result<void> SseParser::end_line(UniqueFunction<void(const SseEvent&)>& on_event) {
  std::string_view line = line_;
  if (std::exchange(at_start_, false) && line.substr(0, 3) == kByteOrderMark) line.remove_prefix(3);
  if (!line.empty()) {
    take_field(line);
    line_.clear();
    if (event_.data.size() > event_bytes_max_) return corrupt("a server-sent event is too long");
    return {};
  }
  line_.clear();
  SseEvent event = std::exchange(event_, {});
  if (!std::exchange(has_data_, false)) return {};
  event.data = well_formed(std::move(event.data));
  event.type = well_formed(std::move(event.type));
  event.id = well_formed(std::move(event.id));
  on_event(event);
  return {};
}

Result<void>
SseParser::feed(std::string_view bytes, UniqueFunction<void(const SseEvent&)>& on_event) {
  if (failed_) return corrupt("the stream of server-sent events failed before");
  if (std::exchange(after_cr_, after_cr_ && bytes.empty()) && !bytes.empty() &&
      bytes.front() == '\n') {
    bytes.remove_prefix(1);
  }
  while (!bytes.empty()) {
    const std::size_t end = bytes.find_first_of("\r\n");
    line_.append(bytes.substr(0, end));
    failed_ = line_.size() > event_bytes_max_;
    if (failed_) return corrupt("a line of a server-sent event is too long");
    if (end == std::string_view::npos) return {};
    const bool cr = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    after_cr_ = cr && bytes.empty();
    if (cr && !bytes.empty() && bytes.front() == '\n') bytes.remove_prefix(1);
    if (auto ended = end_line(on_event); !ended.ok()) {
      failed_ = true;
      return ended;
    }
  }
  return {};
}

}  // namespace pleiad::net
