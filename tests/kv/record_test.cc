#include "kv/record.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::kv {
namespace {

using testing::HasSubstr;

std::string record(RecordKind kind, std::string_view payload) {
  RecordHead head{.kind = kind, .layer = 3, .first = 10, .tokens = 2};
  head.set_id({.epoch = 1, .number = 2, .attempt = 3});
  std::string out;
  append_record(head, std::as_bytes(std::span(payload)), out);
  return out;
}

TEST(RecordReader, GivesRecordsHoweverTheirBytesCome) {
  const std::string stream = record(RecordKind::Lines, "lines") + record(RecordKind::Alive, "") +
                             record(RecordKind::Failed, "why");
  RecordReader reader;
  std::vector<std::string> payloads;
  for (const char byte : stream) {
    reader.feed(std::string_view(&byte, 1));
    const auto next = reader.next().value();
    if (!next) continue;
    EXPECT_EQ(next->head.id(), (TransferId{1, 2, 3}));
    EXPECT_EQ(next->head.layer, 3);
    payloads.emplace_back(
        reinterpret_cast<const char*>(next->payload.data()), next->payload.size()
    );
  }
  EXPECT_THAT(payloads, testing::ElementsAre("lines", "", "why"));
}

TEST(RecordReader, RefusesEveryAlteredByteOfAHead) {
  const std::string good = record(RecordKind::Failed, "why");
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 4);
    RecordReader reader;
    reader.feed(bad);
    const auto next = reader.next();
    // A longer payload that was told has not come.
    EXPECT_TRUE(!next.ok() || !next->has_value()) << "byte " << i;
  }
}

TEST(RecordReader, RefusesWhatIsTooLong) {
  RecordHead head{.payload_bytes = kPayloadBytesMax + 1};
  RecordReader reader;
  reader.feed(std::string_view(reinterpret_cast<const char*>(&head), sizeof head));
  const auto next = reader.next();
  ASSERT_FALSE(next.ok());
  EXPECT_THAT(next.error().message, HasSubstr("with 1048577 bytes"));
}

}  // namespace
}  // namespace pleiad::kv
