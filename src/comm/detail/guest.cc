#include "comm/detail/guest.h"

#include <algorithm>

#include "base/wire_bytes.h"
#include "comm/detail/node_hello.h"

namespace pleiad::comm {
namespace {

Result<void> expect(const ControlMessage& frame, LinkFrame kind) {
  if (frame.kind == static_cast<std::uint32_t>(kind)) return {};
  return corrupt("a frame of kind {} out of turn", frame.kind);
}

}  // namespace

std::vector<std::byte> encode_opening(const Opening& opening) {
  ByteWriter writer;
  writer.number(opening.protocol);
  writer.raw(opening.nonce);
  return writer.take();
}

// Other protocols may say more; their number and nonce stay where they are.
Result<Opening> decode_opening(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  PLEIAD_TRY(protocol, reader.number<std::uint32_t>());
  Opening opening{.protocol = protocol};
  PLEIAD_TRY(nonce, reader.take(opening.nonce.size()));
  std::copy(nonce.begin(), nonce.end(), opening.nonce.begin());
  return opening;
}

void Guest::dismiss(std::string_view why) {
  refusal_ = why;
  stage_ = Stage::Dismissed;
  channel_.queue(LinkFrame::Refusal, std::as_bytes(std::span(why)));
}

Result<void> Guest::hear_opening(const ControlMessage& frame) {
  PLEIAD_TRY(expect(frame, LinkFrame::Open));
  PLEIAD_TRY(opening, decode_opening(frame.bytes));
  if (opening.protocol != kProtocol) {
    dismiss(fmt::format(
        "it speaks protocol {}, node 0 speaks {}: their versions differ",
        opening.protocol,
        kProtocol
    ));
    return {};
  }
  transcript_ = {.joiner = opening.nonce, .host = fresh_nonce()};
  channel_.queue(LinkFrame::Challenge, encode_opening({.nonce = transcript_.host}));
  stage_ = Stage::Proving;
  return {};
}

Result<void> Guest::hear_proof(const ControlMessage& frame, std::string_view secret) {
  PLEIAD_TRY(expect(frame, LinkFrame::Proof));
  if (!same_bytes(frame.bytes, transcript_.digest(secret, kJoinerProof))) {
    dismiss("its cluster secret is not node 0's");
    return {};
  }
  channel_.queue(LinkFrame::Proof, transcript_.digest(secret, kHostProof));
  channel_.use_keys(transcript_.digest(secret, kHostKey), transcript_.digest(secret, kJoinerKey));
  channel_.reader().set_limit(kHelloBytesMax);
  stage_ = Stage::Introducing;
  return {};
}

Result<void> Guest::hear_hello(const ControlMessage& frame) {
  PLEIAD_TRY(expect(frame, LinkFrame::Hello));
  PLEIAD_TRY(hello, decode_hello(frame.bytes));
  hello_ = std::move(hello);
  stage_ = Stage::Introduced;
  return {};
}

Result<void> Guest::hear(const ControlMessage& frame, std::string_view secret) {
  switch (stage_) {
    case Stage::Opening:
      return hear_opening(frame);
    case Stage::Proving:
      return hear_proof(frame, secret);
    case Stage::Introducing:
      return hear_hello(frame);
    case Stage::Introduced:
    case Stage::Waiting:
    case Stage::Seated:
      return expect(frame, LinkFrame::Heartbeat);
    case Stage::Dismissed:
      return {};
  }
  return {};
}

Result<void> Guest::listen(std::string_view secret) {
  PLEIAD_TRY(channel_.fill());
  while (stage_ != Stage::Dismissed) {
    PLEIAD_TRY(frame, channel_.next());
    if (!frame) break;
    PLEIAD_TRY(hear(*frame, secret));
  }
  return channel_.flush();
}

}  // namespace pleiad::comm
