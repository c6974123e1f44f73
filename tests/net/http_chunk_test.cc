#include "net/http_chunk.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using Status = HttpChunkDecoder::Status;

struct Decoded {
  Status status = Status::NeedMore;
  std::string body;
  std::size_t consumed = 0;
  int refusal = 0;
};

// Feeds `bytes` in pieces of `piece` bytes.
Decoded
decode(std::string_view bytes, std::size_t piece = 1U << 20U, std::uint64_t body_max = 1U << 30U) {
  HttpChunkDecoder decoder(body_max);
  Decoded decoded;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    std::string_view part = bytes.substr(at, piece);
    do {
      const auto step = decoder.next(part);
      decoded.status = step.status;
      decoded.body.append(step.payload);
      decoded.consumed += step.consumed;
      part.remove_prefix(step.consumed);
    } while (decoded.status == Status::Payload);
    if (decoded.status == Status::Refused) decoded.refusal = decoder.refusal().status;
    if (decoded.status != Status::NeedMore) return decoded;
  }
  return decoded;
}

TEST(HttpChunk, ReadsABodyHoweverItIsCut) {
  const std::string bytes =
      "5;name=value\r\nhello\r\nA\r\n, world!!!\r\n0\r\nTrailer: x\r\n\r\nGET /";

  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    const Decoded decoded = decode(bytes, piece);

    EXPECT_EQ(decoded.status, Status::Done) << piece;
    EXPECT_EQ(decoded.body, "hello, world!!!") << piece;
    EXPECT_EQ(decoded.consumed, bytes.size() - 5) << piece;
  }
}

TEST(HttpChunk, RefusesSizesThatAreNotPlainHex) {
  for (const std::string_view bytes :
       {"-2\r\n",
        "+2\r\n",
        "0x5\r\n",
        " 5\r\n",
        "5 \r\n",
        "\r\n",
        ";\r\n",
        "00000000000000005\r\n",
        "5\n",
        "g\r\n",
        "5\rX",
        "2\r\nabc",
        "2\r\nab\n",
        "0\r\nbad trailer\n",
        "0\r\n folded\r\n"}) {
    EXPECT_EQ(decode(bytes).refusal, 400) << bytes;
  }
}

TEST(HttpChunk, RefusesHugeExtensionsAndTrailers) {
  EXPECT_EQ(decode("5;" + std::string(20'000, 'x')).refusal, 400);
  EXPECT_EQ(decode("0\r\n" + std::string(20'000, 'x')).refusal, 400);
  std::string many;
  for (int i = 0; i < 2000; ++i) {
    many += "1;0123456789\r\nx\r\n";
  }
  EXPECT_EQ(decode(many).refusal, 400);
}

TEST(HttpChunk, RefusesABodyAboveTheLimitBeforeHandingItOut) {
  EXPECT_EQ(decode("a\r\n0123456789\r\n", 100, 9).refusal, 413);
  EXPECT_EQ(decode("FFFFFFFFFFFFFFFF\r\n").refusal, 413);
  const Decoded fits = decode("a\r\n0123456789\r\n0\r\n\r\n", 100, 10);
  EXPECT_EQ(fits.status, Status::Done);
}

TEST(HttpChunk, TakesMillionsOfOneByteChunks) {
  std::string bytes;
  for (int i = 0; i < 3'000'000; ++i) {
    bytes += "1\r\nx\r\n";
  }
  bytes += "0\r\n\r\n";

  const Decoded decoded = decode(bytes, 65536);

  EXPECT_EQ(decoded.status, Status::Done);
  EXPECT_EQ(decoded.body.size(), 3'000'000U);
}

}  // namespace
}  // namespace pleiad::net
