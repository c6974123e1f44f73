#include "api/generation_stream.h"

#include <cstring>
#include <vector>

#include "api/generation_wire.h"

namespace pleiad::api {
namespace {

constexpr std::size_t kHeadBytes = sizeof(std::uint32_t) + 1;

void append(std::string& out, StreamFrame kind, std::span<const std::byte> event) {
  const auto length = static_cast<std::uint32_t>(event.size() + 1);
  out.append(reinterpret_cast<const char*>(&length), sizeof(length));
  out.push_back(static_cast<char>(kind));
  out.append(reinterpret_cast<const char*>(event.data()), event.size());
}

}  // namespace

void append_token(std::string& out, const TokenEvent& event) {
  append(out, StreamFrame::Token, encode(event));
}

void append_prompt_token(std::string& out, const TokenEvent& event) {
  append(out, StreamFrame::PromptToken, encode(event));
}

void append_finish(std::string& out, const FinishEvent& event) {
  append(out, StreamFrame::Finish, encode(event));
}

void append_alive(std::string& out) {
  append(out, StreamFrame::Alive, {});
}

Result<void> GenerationStreamReader::feed(std::string_view bytes) {
  if (!rest_.empty()) {
    rest_.append(bytes);
    bytes = rest_;
  }
  std::size_t taken = 0;
  while (taken < bytes.size()) {
    PLEIAD_TRY(frame, take_frame(bytes.substr(taken)));
    if (frame == 0) break;
    taken += frame;
  }
  rest_ = std::string(bytes.substr(taken));
  return {};
}

// Bytes of the frame that `bytes` begin with; 0 when it has not come whole.
Result<std::size_t> GenerationStreamReader::take_frame(std::string_view bytes) {
  if (finished_) return corrupt("{} bytes after the end of a request's stream", bytes.size());
  if (bytes.size() < kHeadBytes) return std::size_t{0};
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length == 0 || length > kStreamFrameMax) {
    return corrupt("a frame of {} bytes in a request's stream", length);
  }
  if (bytes.size() < sizeof(length) + length) return std::size_t{0};
  const auto kind = static_cast<StreamFrame>(bytes[sizeof(length)]);
  const std::string_view event = bytes.substr(kHeadBytes, length - 1);
  PLEIAD_TRY(take_event(kind, std::as_bytes(std::span(event))));
  return sizeof(length) + length;
}

Result<void>
GenerationStreamReader::take_event(StreamFrame kind, std::span<const std::byte> bytes) {
  if (kind == StreamFrame::Alive && bytes.empty()) return {};
  if (kind == StreamFrame::Finish) {
    PLEIAD_TRY(event, decode_finish(bytes));
    finished_ = true;
    sink_.on_finish(event);
    return {};
  }
  if (kind != StreamFrame::Token && kind != StreamFrame::PromptToken) {
    return corrupt("a frame of kind {} in a request's stream", static_cast<int>(kind));
  }
  PLEIAD_TRY(event, decode_token(bytes));
  if (kind == StreamFrame::Token) {
    sink_.on_token(event);
  } else {
    sink_.on_prompt_token(event);
  }
  return {};
}

}  // namespace pleiad::api
