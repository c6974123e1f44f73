#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "net/http_head.h"

namespace pleiad::net {

// Takes a chunked body apart (RFC 9112 §7.1) as it arrives, in linear time and constant memory.
// Sizes are 1 to 16 hex digits and nothing else; extensions are skipped and, like trailers,
// bounded; trailers are dropped. Pure.
class HttpChunkDecoder {
 public:
  enum class Status {
    NeedMore,  // all bytes are used up, and the body goes on
    Payload,   // `payload` is the next part of the body; call again with the rest
    Done,      // the body ended; the bytes behind `consumed` belong to the next message
    Refused,   // see refusal()
  };

  struct Step {
    Status status = Status::NeedMore;
    std::size_t consumed = 0;  // bytes of the input that are used up
    std::string_view payload;  // points into the input
  };

  // More than `body_bytes_max` bytes of payload are refused with 413 before they are handed out.
  explicit HttpChunkDecoder(std::uint64_t body_bytes_max) : body_bytes_left_(body_bytes_max) {}

  Step next(std::string_view bytes);
  // REQUIRES: the last next() said Refused.
  [[nodiscard]] const HttpRefusal& refusal() const { return refusal_; }

 private:
  enum class State {
    Size,
    Extension,
    SizeEnd,
    Payload,
    PayloadCr,
    PayloadLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
  };
  enum class Move { On, Done, Refused };

  Move refuse(int status, const char* message);
  Move take(char c);
  Move take_size(char c);
  Move end_size();
  Move take_extra(char c, State after_cr);

  State state_ = State::Size;
  int size_digits_ = 0;
  std::uint64_t chunk_bytes_left_ = 0;
  std::uint64_t body_bytes_left_;
  std::size_t extra_bytes_ = 0;  // of extensions and trailers of the whole body
  HttpRefusal refusal_;
};

}  // namespace pleiad::net
