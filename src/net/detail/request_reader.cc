#include "net/detail/request_reader.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "net/url.h"

namespace pleiad::net {

namespace {

// Reserving what a head announces would let a client claim memory that it never fills.
constexpr std::uint64_t kBodyReserveBytesMax = 1U << 20U;
constexpr std::size_t kBufferKeepBytes = 16U << 10U;

}  // namespace

void RequestReader::append(std::string_view bytes) {
  if (refused_) return;
  if (used_ > 0 && (used_ == buffer_.size() || used_ >= kBufferKeepBytes)) {
    buffer_.erase(0, used_);
    used_ = 0;
  }
  buffer_.append(bytes);
}

RequestReader::Status RequestReader::refuse(HttpRefusal refusal) {
  refused_ = true;
  refusal_ = std::move(refusal);
  buffer_.clear();
  used_ = 0;
  return Status::Refused;
}

RequestReader::Status RequestReader::advance() {
  if (refused_) return Status::Refused;
  if (!head_) {
    const Status status = read_head();
    if (status != Status::NeedBody) return status;
  }
  return body_done_ ? Status::Ready : read_body();
}

// NeedBody once the head is there.
RequestReader::Status RequestReader::read_head() {
  // A few clients send an empty line behind a body; RFC 9112 §2.2 lets it pass. One, however the
  // bytes are cut: a client that sends nothing else must not hold the connection.
  if (!empty_line_passed_) {
    if (rest() == "\r") return Status::NeedHead;
    empty_line_passed_ = rest().substr(0, 2) == "\r\n" && scanner_.head_bytes() == 0;
    if (empty_line_passed_) used_ += 2;
  }
  switch (scanner_.scan(rest())) {
    case HttpHeadScanner::Status::NeedMore:
      return Status::NeedHead;
    case HttpHeadScanner::Status::Refused:
      return refuse(scanner_.refusal());
    case HttpHeadScanner::Status::Complete:
      break;
  }
  auto parsed = parse_request_head(rest().substr(0, scanner_.head_bytes()), limits_);
  if (auto* refusal = std::get_if<HttpRefusal>(&parsed)) return refuse(std::move(*refusal));
  head_ = std::move(std::get<HttpRequestHead>(parsed));
  used_ += scanner_.head_bytes();
  if (head_->content_length > body_bytes_max_) return refuse({413, "the body is too large"});
  body_.reserve(std::min(head_->content_length, kBodyReserveBytesMax));
  return Status::NeedBody;
}

RequestReader::Status RequestReader::read_body() {
  switch (head_->framing) {
    case BodyFraming::None:
      break;
    case BodyFraming::Chunked:
      return read_chunks();
    case BodyFraming::Length:
    case BodyFraming::UntilClose: {
      const std::size_t missing = head_->content_length - body_.size();
      const std::string_view part = rest().substr(0, missing);
      body_.append(part);
      used_ += part.size();
      if (body_.size() < head_->content_length) return Status::NeedBody;
      break;
    }
  }
  body_done_ = true;
  return Status::Ready;
}

RequestReader::Status RequestReader::read_chunks() {
  while (true) {
    const HttpChunkDecoder::Step step = chunks_.next(rest());
    used_ += step.consumed;
    switch (step.status) {
      case HttpChunkDecoder::Status::NeedMore:
        return Status::NeedBody;
      case HttpChunkDecoder::Status::Payload:
        body_.append(step.payload);
        break;
      case HttpChunkDecoder::Status::Refused:
        return refuse(chunks_.refusal());
      case HttpChunkDecoder::Status::Done:
        body_done_ = true;
        return Status::Ready;
    }
  }
}

HttpRequest RequestReader::take() {
  const TargetParts parts = split_target(head_->target);
  HttpRequest request{
      .method = std::move(head_->method),
      .path = std::string(parts.path),
      .query = std::string(parts.query),
      .minor_version = head_->minor_version,
      .headers = std::move(head_->headers),
      .body = std::exchange(body_, {}),
  };
  request.target = std::move(head_->target);
  head_.reset();
  body_done_ = false;
  empty_line_passed_ = false;
  scanner_ = HttpHeadScanner(limits_);
  chunks_ = HttpChunkDecoder(body_bytes_max_);
  return request;
}

}  // namespace pleiad::net
