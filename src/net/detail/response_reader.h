#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/http_chunk.h"
#include "net/http_head.h"

namespace pleiad::net {

// Turns the bytes behind one request into its answer, piece by piece. Interim answers (1xx) are
// skipped. Pure.
class ResponseReader {
 public:
  enum class Status {
    NeedMore,
    Head,     // head() is there
    Payload,  // `payload` is the next part of the body
    End,      // the answer is whole
    Refused,  // see refusal(); final
  };

  struct Step {
    Status status = Status::NeedMore;
    std::string_view payload;  // valid until the next call
  };

  ResponseReader(
      std::string request_method,
      const HttpHeadLimits& limits,
      std::uint64_t body_bytes_max
  )
      : request_method_(std::move(request_method)),
        limits_(limits),
        scanner_(limits),
        chunks_(body_bytes_max),
        body_bytes_left_(body_bytes_max) {}

  void append(std::string_view bytes);
  // The connection ended: completes an answer that is framed by that, and refuses any other.
  void append_end() { ended_ = true; }
  Step next();

  [[nodiscard]] const HttpResponseHead& head() const { return *head_; }
  [[nodiscard]] const HttpRefusal& refusal() const { return refusal_; }
  // Whether it was refused because the connection ended too early.
  [[nodiscard]] bool refusal_is_cut() const { return cut_; }
  // Whether anything of an answer came.
  [[nodiscard]] bool started() const { return started_; }
  // Whether bytes are left behind the answer, which nobody asked for.
  [[nodiscard]] bool has_leftover() const { return used_ < buffer_.size(); }

 private:
  Step refuse(HttpRefusal refusal);
  Step need_more();
  Step read_head();
  Step read_length();
  Step read_chunks();
  Step read_until_close();
  [[nodiscard]] std::string_view rest() const { return std::string_view(buffer_).substr(used_); }

  std::string request_method_;
  HttpHeadLimits limits_;
  HttpHeadScanner scanner_;
  HttpChunkDecoder chunks_;
  std::uint64_t body_bytes_left_;
  std::uint64_t length_left_ = 0;
  std::string buffer_;
  std::size_t used_ = 0;
  std::optional<HttpResponseHead> head_;
  bool started_ = false;
  bool ended_ = false;
  bool refused_ = false;
  bool cut_ = false;
  HttpRefusal refusal_;
};

}  // namespace pleiad::net
