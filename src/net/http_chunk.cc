#include "net/http_chunk.h"

#include <algorithm>

namespace pleiad::net {

namespace {

constexpr int kSizeDigitsMax = 16;
constexpr std::size_t kExtraBytesMax = 16U << 10U;  // extensions and trailers have no use here

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

HttpChunkDecoder::Move HttpChunkDecoder::refuse(int status, const char* message) {
  refusal_ = {status, message};
  return Move::Refused;
}

HttpChunkDecoder::Move HttpChunkDecoder::take_size(char c) {
  const int digit = hex_value(c);
  if (digit >= 0) {
    if (++size_digits_ > kSizeDigitsMax) return refuse(400, "a chunk size has too many digits");
    chunk_bytes_left_ = chunk_bytes_left_ * 16 + static_cast<std::uint64_t>(digit);
    return Move::On;
  }
  if (size_digits_ == 0) return refuse(400, "a chunk size is not a hexadecimal number");
  if (c == '\r') {
    state_ = State::SizeEnd;
  } else if (c == ';') {
    state_ = State::Extension;
  } else {
    return refuse(400, "a chunk size is not a hexadecimal number");
  }
  return Move::On;
}

HttpChunkDecoder::Move HttpChunkDecoder::end_size() {
  size_digits_ = 0;
  if (chunk_bytes_left_ > body_bytes_left_) return refuse(413, "the body is too large");
  body_bytes_left_ -= chunk_bytes_left_;
  state_ = chunk_bytes_left_ > 0 ? State::Payload : State::TrailerStart;
  return Move::On;
}

// A byte of a chunk extension or a trailer line; a CR leads on to `after_cr`.
HttpChunkDecoder::Move HttpChunkDecoder::take_extra(char c, State after_cr) {
  if (c == '\r') {
    state_ = after_cr;
    return Move::On;
  }
  if (!is_header_value({&c, 1})) return refuse(400, "a control character is in the chunk framing");
  if (++extra_bytes_ > kExtraBytesMax) {
    return refuse(400, "chunk extensions and trailers are too long");
  }
  return Move::On;
}

HttpChunkDecoder::Move HttpChunkDecoder::take(char c) {
  const char* const line_end = "chunk lines must end with CR LF";
  switch (state_) {
    case State::Size:
      return take_size(c);
    case State::Extension:
      return take_extra(c, State::SizeEnd);
    case State::SizeEnd:
      return c == '\n' ? end_size() : refuse(400, line_end);
    case State::Payload:
      break;
    case State::PayloadCr:
      state_ = State::PayloadLf;
      return c == '\r' ? Move::On : refuse(400, line_end);
    case State::PayloadLf:
      state_ = State::Size;
      return c == '\n' ? Move::On : refuse(400, line_end);
    case State::TrailerStart:
      if (c == '\r') {
        state_ = State::LastLf;
        return Move::On;
      }
      state_ = State::Trailer;
      return is_token({&c, 1}) ? take_extra(c, State::TrailerLf)
                               : refuse(400, "a trailer is malformed");
    case State::Trailer:
      return take_extra(c, State::TrailerLf);
    case State::TrailerLf:
      state_ = State::TrailerStart;
      return c == '\n' ? Move::On : refuse(400, line_end);
    case State::LastLf:
      return c == '\n' ? Move::Done : refuse(400, line_end);
  }
  return Move::On;
}

HttpChunkDecoder::Step HttpChunkDecoder::next(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    if (state_ == State::Payload) {
      const std::size_t size = std::min<std::uint64_t>(chunk_bytes_left_, bytes.size() - at);
      chunk_bytes_left_ -= size;
      if (chunk_bytes_left_ == 0) state_ = State::PayloadCr;
      return {Status::Payload, at + size, bytes.substr(at, size)};
    }
    switch (take(bytes[at++])) {
      case Move::On:
        break;
      case Move::Done:
        return {Status::Done, at, {}};
      case Move::Refused:
        return {Status::Refused, at, {}};
    }
  }
  return {Status::NeedMore, at, {}};
}

}  // namespace pleiad::net
