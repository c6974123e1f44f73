#include "net/detail/response_reader.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace pleiad::net {

void ResponseReader::append(std::string_view bytes) {
  started_ = started_ || !bytes.empty();
  if (used_ > 0) {
    buffer_.erase(0, used_);
    used_ = 0;
  }
  buffer_.append(bytes);
}

ResponseReader::Step ResponseReader::refuse(HttpRefusal refusal) {
  refused_ = true;
  refusal_ = std::move(refusal);
  return {Status::Refused, {}};
}

ResponseReader::Step ResponseReader::need_more() {
  if (ended_) {
    cut_ = true;
    return refuse({502, "the connection ended in the middle of an answer"});
  }
  return {Status::NeedMore, {}};
}

ResponseReader::Step ResponseReader::next() {
  if (refused_) return {Status::Refused, {}};
  if (!head_) return read_head();
  switch (head_->framing) {
    case BodyFraming::None:
      return {Status::End, {}};
    case BodyFraming::Length:
      return read_length();
    case BodyFraming::Chunked:
      return read_chunks();
    case BodyFraming::UntilClose:
      return read_until_close();
  }
  return need_more();
}

ResponseReader::Step ResponseReader::read_head() {
  while (true) {
    switch (scanner_.scan(rest())) {
      case HttpHeadScanner::Status::NeedMore:
        return need_more();
      case HttpHeadScanner::Status::Refused:
        return refuse({502, scanner_.refusal().message});
      case HttpHeadScanner::Status::Complete:
        break;
    }
    auto parsed = parse_response_head(rest().substr(0, scanner_.head_bytes()), request_method_);
    if (auto* refusal = std::get_if<HttpRefusal>(&parsed)) {
      return refuse({502, refusal->message});
    }
    used_ += scanner_.head_bytes();
    scanner_ = HttpHeadScanner(limits_);
    auto& head = std::get<HttpResponseHead>(parsed);
    if (head.status == 101) return refuse({502, "the server switched to another protocol"});
    if (head.status < 200) continue;
    if (head.content_length > body_bytes_left_ && head.framing == BodyFraming::Length) {
      return refuse({502, "the answer is too large"});
    }
    length_left_ = head.content_length;
    head_ = std::move(head);
    return {Status::Head, {}};
  }
}

ResponseReader::Step ResponseReader::read_length() {
  if (length_left_ == 0) return {Status::End, {}};
  const std::string_view part =
      rest().substr(0, std::min<std::uint64_t>(length_left_, buffer_.size()));
  if (part.empty()) return need_more();
  used_ += part.size();
  length_left_ -= part.size();
  return {Status::Payload, part};
}

ResponseReader::Step ResponseReader::read_chunks() {
  const HttpChunkDecoder::Step step = chunks_.next(rest());
  used_ += step.consumed;
  switch (step.status) {
    case HttpChunkDecoder::Status::NeedMore:
      return need_more();
    case HttpChunkDecoder::Status::Payload:
      return {Status::Payload, step.payload};
    case HttpChunkDecoder::Status::Done:
      head_->framing = BodyFraming::None;
      return {Status::End, {}};
    case HttpChunkDecoder::Status::Refused:
      return refuse({502, chunks_.refusal().message});
  }
  return need_more();
}

ResponseReader::Step ResponseReader::read_until_close() {
  const std::string_view part = rest();
  if (part.empty()) return {ended_ ? Status::End : Status::NeedMore, {}};
  if (part.size() > body_bytes_left_) return refuse({502, "the answer is too large"});
  body_bytes_left_ -= part.size();
  used_ += part.size();
  return {Status::Payload, part};
}

}  // namespace pleiad::net
