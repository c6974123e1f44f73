#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/http_chunk.h"
#include "net/http_head.h"
#include "net/http_message.h"

namespace pleiad::net {

// Turns the bytes of one connection into requests, one after the other. After a refusal it yields
// nothing more: what is left of the bytes must not be read as a request. Pure.
class RequestReader {
 public:
  enum class Status {
    NeedHead,  // nothing of a request, or only a part of its head, is there
    NeedBody,  // the head is there, the body is not yet whole
    Ready,     // take() gives a request
    Refused,   // see refusal(); final
  };

  RequestReader(const HttpHeadLimits& limits, std::uint64_t body_bytes_max)
      : limits_(limits),
        body_bytes_max_(body_bytes_max),
        scanner_(limits),
        chunks_(body_bytes_max) {}

  void append(std::string_view bytes);
  Status advance();
  // The request that advance() found Ready; its peer is left empty.
  HttpRequest take();

  // The head of the request under way. REQUIRES: the last advance() said NeedBody or Ready.
  [[nodiscard]] const HttpRequestHead& head() const { return *head_; }
  [[nodiscard]] const HttpRefusal& refusal() const { return refusal_; }
  // Received bytes not yet part of a request.
  [[nodiscard]] std::size_t buffered_bytes() const { return buffer_.size() - used_; }

 private:
  Status refuse(HttpRefusal refusal);
  Status read_head();
  Status read_body();
  Status read_chunks();
  [[nodiscard]] std::string_view rest() const { return std::string_view(buffer_).substr(used_); }

  HttpHeadLimits limits_;
  std::uint64_t body_bytes_max_;
  std::string buffer_;
  std::size_t used_ = 0;  // bytes of buffer_ that are taken apart
  HttpHeadScanner scanner_;
  HttpChunkDecoder chunks_;
  std::optional<HttpRequestHead> head_;
  std::string body_;
  bool body_done_ = false;
  bool empty_line_passed_ = false;  // before the request under way
  bool refused_ = false;
  HttpRefusal refusal_;
};

}  // namespace pleiad::net
