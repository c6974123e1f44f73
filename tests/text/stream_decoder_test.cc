#include "text/stream_decoder.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::text {
namespace {

Tokenizer fable() {
  const std::filesystem::path folder = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";
  return Tokenizer::load(folder / "tokenizer.json", folder / "tokenizer_config.json").value();
}

TEST(StreamDecoder, NeverShowsHalfACharacter) {
  const Tokenizer tokenizer = fable();
  StreamDecoder decoder(tokenizer);
  std::vector<TokenId> bytes;
  for (const char* byte : {"\xF0", "\x9F", "\x90", "\xB2"}) {
    bytes.push_back(*tokenizer.id_of(byte));
  }

  EXPECT_EQ(decoder.push(bytes[0]), "");
  EXPECT_EQ(decoder.push(bytes[1]), "");
  EXPECT_EQ(decoder.push(bytes[2]), "");
  EXPECT_EQ(decoder.push(bytes[3]), "\xF0\x9F\x90\xB2");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, ReplacesBytesOnceTheyAreSurelyWrong) {
  const Tokenizer tokenizer = fable();
  StreamDecoder decoder(tokenizer);

  EXPECT_EQ(decoder.push(*tokenizer.id_of("\xE2")), "");
  EXPECT_EQ(
      decoder.push(*tokenizer.id_of("a")),
      "\xEF\xBF\xBD"
      "a"
  );
  EXPECT_EQ(decoder.push(*tokenizer.id_of("\xE2")), "");
  EXPECT_EQ(decoder.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, PiecesJoinedEqualTheWholeForAnyTokens) {
  const Tokenizer tokenizer = fable();
  constexpr std::uint64_t kSeed = 11;
  Random random(kSeed);
  for (const bool skip_special : {false, true}) {
    for (int round = 0; round < 200; ++round) {
      // Few ids but the bytes: many broken and many whole sequences.
      std::vector<TokenId> ids;
      for (std::uint64_t i = random.below(40); i > 0; --i) {
        ids.push_back(static_cast<TokenId>(random.below(random.below(2) == 0 ? 262 : 4096)));
      }
      const DecodeOptions options{.skip_special = skip_special};
      StreamDecoder decoder(tokenizer, options);
      std::string joined;
      for (const TokenId id : ids) {
        joined += decoder.push(id);
      }
      joined += decoder.finish();

      EXPECT_EQ(joined, *tokenizer.decode(ids, options)) << "seed " << kSeed;
    }
  }
}

TEST(StreamDecoder, AddsNothingForIdsBeyondTheVocabulary) {
  const Tokenizer tokenizer = fable();
  StreamDecoder decoder(tokenizer);

  EXPECT_EQ(decoder.push(4'000'000'000U), "");
}

}  // namespace
}  // namespace pleiad::text
