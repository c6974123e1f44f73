#include "comm/detail/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::comm {
namespace {

using testing::HasSubstr;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> frames(FrameSeal seal, const std::vector<std::string>& texts) {
  std::vector<std::byte> out;
  for (const auto& text : texts) {
    append_frame(seal, 20, bytes_of(text), out);
  }
  return out;
}

// The messages of `stream`, fed in pieces; an error's message is the last one.
std::vector<std::string>
read(FrameReader reader, std::span<const std::byte> stream, std::size_t piece) {
  std::vector<std::string> texts;
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    reader.feed(stream.subspan(at, std::min(piece, stream.size() - at)));
    for (;;) {
      auto frame = reader.next();
      if (!frame.ok()) {
        texts.push_back(frame.error().message);
        return texts;
      }
      if (!*frame) break;
      texts.emplace_back(
          reinterpret_cast<const char*>((*frame)->bytes.data()), (*frame)->bytes.size()
      );
    }
  }
  return texts;
}

FrameSeal keyed(std::uint8_t first) {
  FrameSeal seal;
  seal.use_key({std::byte{first}});
  return seal;
}

FrameReader keyed_reader(std::uint8_t first) {
  FrameReader reader;
  reader.seal() = keyed(first);
  return reader;
}

TEST(Frame, ComesOutWholeHoweverTheStreamIsCut) {
  const std::vector<std::string> texts{"one", "", std::string(200, 'x'), "four"};
  for (const std::size_t piece : {1U, 7U, 1'000U}) {
    EXPECT_EQ(read(FrameReader(), frames({}, texts), piece), texts);
    EXPECT_EQ(read(keyed_reader(9), frames(keyed(9), texts), piece), texts);
  }
}

TEST(Frame, RefusesAnyFlippedBit) {
  for (const bool with_key : {false, true}) {
    auto stream = frames(with_key ? keyed(9) : FrameSeal(), {"a message"});
    for (std::size_t bit = 0; bit < stream.size() * 8; ++bit) {
      const auto mask = static_cast<std::byte>(1U << (bit % 8));
      stream[bit / 8] ^= mask;
      const auto texts = read(with_key ? keyed_reader(9) : FrameReader(), stream, 1'000);
      // A longer length only makes the reader wait.
      EXPECT_TRUE(texts.empty() || texts[0] != "a message") << bit;
      stream[bit / 8] ^= mask;
    }
  }
}

TEST(Frame, RefusesFramesThatAreForgedRepeatedOrDropped) {
  const auto two = frames(keyed(9), {"first", "other"});
  const std::span<const std::byte> first = std::span(two).first(two.size() / 2);
  const std::span<const std::byte> second = std::span(two).subspan(two.size() / 2);
  std::vector<std::byte> twice(first.begin(), first.end());
  twice.insert(twice.end(), first.begin(), first.end());

  EXPECT_THAT(read(keyed_reader(8), two, 1'000)[0], HasSubstr("wrong tag"));
  EXPECT_THAT(read(keyed_reader(9), second, 1'000)[0], HasSubstr("wrong tag"));
  EXPECT_THAT(read(keyed_reader(9), twice, 1'000)[1], HasSubstr("wrong tag"));
  EXPECT_THAT(read(keyed_reader(9), frames({}, {"plain"}), 1'000)[0], HasSubstr("wrong tag"));
}

TEST(Frame, RefusesWhatIsTooLongBeforeItHasCome) {
  FrameReader reader;
  reader.set_limit(10);
  const auto stream = frames({}, {"eleven byte"});

  reader.feed(std::span(stream).first(kFrameHeadBytes));

  const auto frame = reader.next();
  ASSERT_FALSE(frame.ok());
  EXPECT_EQ(frame.error().kind, ErrorKind::Corrupt);
  EXPECT_THAT(frame.error().message, HasSubstr("11 bytes, at most 10"));
}

TEST(Frame, RefusesAnotherProtocolAtItsFirstByte) {
  EXPECT_THAT(read(FrameReader(), bytes_of("G"), 1)[0], HasSubstr("not Pleiad's"));
}

}  // namespace
}  // namespace pleiad::comm
