// Also tests: lines.cc, line_records.cc
#include "kv/assembly.h"

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kv/line_records.h"
#include "tests/kv/line_caches.h"

namespace pleiad::kv {
namespace {

using testing::HasSubstr;
using Taken = Assembly::Taken;

constexpr TransferId kId{.epoch = 77, .number = 5, .attempt = 2};
constexpr std::int64_t kPages = 9;

// A prompt's keys and values on one side, room for them on the other.
struct Trial {
  Random random;
  LineCaches from;
  LineCaches to;
  std::vector<std::uint32_t> from_pages;
  std::vector<std::uint32_t> to_pages;
  std::int64_t first;
  std::int64_t end;
  RecordCount sent{};

  Trial(const LineShape& shape, std::int64_t from_parts, std::int64_t to_parts, std::uint64_t seed)
      : random(seed),
        from(shape, from_parts, kPages),
        to(shape, to_parts, kPages),
        from_pages(shuffled_pages(random, kPages)),
        to_pages(shuffled_pages(random, kPages)),
        first(random.between(0, 300)),
        end(random.between(first + 1, 64 * kPages)) {
    from.fill(from_pages, 0, end);
  }

  Assembly assembly() {
    TransferPlan plan{
        .id = kId,
        .shape = from.shape,
        .first = first,
        .end = end,
        .parts = to.parts,
        .pages = to_pages};
    for (const PartCache& part : from.parts)
      plan.sources.push_back({.plan = part.plan, .base = part.base});
    return Assembly(std::move(plan));
  }

  // The records of tokens [begin, stop) of one layer, from every part that is the first with its
  // heads.
  std::string lines(std::int64_t layer, std::int64_t begin, std::int64_t stop, bool shared) {
    std::string out;
    std::int64_t heads_sent = 0;
    for (std::size_t i = 0; i < from.parts.size(); ++i) {
      const PartCache& part = from.parts[i];
      if (part.plan.heads.first < heads_sent) continue;
      heads_sent = part.plan.heads.first + part.plan.heads.count;
      const LineRun run{kId, layer, begin, stop, from_pages};
      const RecordCount count =
          shared ? append_shared_lines(part, static_cast<std::uint32_t>(i), run, out)
                 : append_lines(part, run, out);
      sent.records += count.records;
      sent.bytes += count.bytes;
    }
    return out;
  }

  // Everything, in chunks of random lengths, each through all layers.
  std::string all(bool shared) {
    std::string out;
    for (std::int64_t begin = first; begin < end;) {
      const std::int64_t stop = std::min(end, begin + random.between(1, 200));
      for (std::int64_t layer = 0; layer < from.shape.layers; ++layer)
        out += lines(layer, begin, stop, shared);
      begin = stop;
    }
    return out;
  }

  [[nodiscard]] std::string commit() const {
    RecordHead head{.kind = RecordKind::Commit, .records = sent.records, .bytes = sent.bytes};
    head.set_id(kId);
    std::string out;
    append_record(head, {}, out);
    return out;
  }
};

// What the last record of `bytes` came to; the first failure.
Result<std::optional<Taken>> feed(Assembly& assembly, const std::string& bytes) {
  RecordReader reader;
  reader.feed(bytes);
  std::optional<Taken> last;
  for (;;) {
    PLEIAD_TRY(record, reader.next());
    if (!record) return last;
    PLEIAD_TRY(taken, assembly.take(*record));
    last = taken;
  }
}

std::string message(Assembly& assembly, const std::string& bytes) {
  const auto fed = feed(assembly, bytes);
  return fed.ok() ? "" : fed.error().message;
}

// Changes a record's head and seals it again.
std::string with_head(const std::string& bytes, const std::function<void(RecordHead&)>& change) {
  RecordReader reader;
  reader.feed(bytes);
  const Record record = reader.next().value().value();
  RecordHead head = record.head;
  change(head);
  std::string out;
  append_record(head, record.payload, out);
  return out;
}

class AssemblyOf : public testing::TestWithParam<std::tuple<int, int, bool, bool>> {};

TEST_P(AssemblyOf, EveryLineArrivesWhereItBelongs) {
  const auto [from_parts, to_parts, grouped, shared] = GetParam();
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    Trial trial(grouped ? kGrouped : kLatent, from_parts, to_parts, seed);
    Assembly assembly = trial.assembly();
    const auto lines = feed(assembly, trial.all(shared));
    ASSERT_TRUE(lines.ok()) << lines.error().message;
    EXPECT_EQ(*lines, Taken::Lines);
    const auto commit = feed(assembly, trial.commit());
    ASSERT_TRUE(commit.ok()) << commit.error().message;
    EXPECT_EQ(*commit, Taken::Committed);
    EXPECT_EQ(trial.to.wrong(trial.to_pages, trial.first, trial.end), 0U) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts,
    AssemblyOf,
    testing::Combine(
        testing::Values(1, 2, 4, 8),
        testing::Values(1, 2, 4, 8),
        testing::Bool(),
        testing::Bool()
    )
);

TEST(Assembly, NothingButTheTransfersTokensIsTouched) {
  Trial trial(kGrouped, 1, 2, 3);
  trial.first = 70;
  trial.end = 130;
  Assembly assembly = trial.assembly();
  ASSERT_TRUE(feed(assembly, trial.all(false)).ok());
  trial.to.for_each(trial.to_pages, 0, 70, [](const std::byte& at, auto...) {
    ASSERT_EQ(at, std::byte{0});
  });
  trial.to.for_each(trial.to_pages, 130, 64 * kPages, [](const std::byte& at, auto...) {
    ASSERT_EQ(at, std::byte{0});
  });
}

TEST(Assembly, RecordsOfAnotherTransferAreDropped) {
  Trial trial(kGrouped, 1, 1, 1);
  Assembly assembly = trial.assembly();
  const std::string lines = trial.lines(0, trial.first, trial.first + 1, false);
  for (const auto& change : std::vector<std::function<void(RecordHead&)>>{
           [](RecordHead& head) { ++head.epoch; },
           [](RecordHead& head) { ++head.number; },
           [](RecordHead& head) { ++head.attempt; }}) {
    const auto fed = feed(assembly, with_head(lines, change));
    ASSERT_TRUE(fed.ok());
    EXPECT_EQ(*fed, Taken::Dropped);
  }
  EXPECT_EQ(assembly.bytes(), 0U);
}

TEST(Assembly, LinesThatCameBeforeAreDroppedAndNotCopied) {
  Trial trial(kGrouped, 1, 1, 2);
  Assembly assembly = trial.assembly();
  const std::string all = trial.all(false);
  ASSERT_TRUE(feed(assembly, all).ok());
  trial.from.for_each(trial.from_pages, 0, trial.end, [](std::byte& at, auto...) {
    at = std::byte{9};
  });
  const RecordCount counted = trial.sent;
  const auto again = feed(assembly, trial.lines(0, trial.first, trial.end, false));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, Taken::Dropped);
  trial.sent = counted;
  EXPECT_EQ(*feed(assembly, trial.commit()), Taken::Committed);
  EXPECT_EQ(trial.to.wrong(trial.to_pages, trial.first, trial.end), 0U);
}

TEST(Assembly, TornAndAlteredLinesAreRefused) {
  for (const bool shared : {false, true}) {
    Trial trial(kGrouped, 1, 1, 4);
    Assembly assembly = trial.assembly();
    std::string lines = trial.lines(0, trial.first, trial.first + 1, shared);
    if (shared) {  // the sender's page is written again before it is read
      const auto page = trial.from_pages[static_cast<std::size_t>(trial.first / kPageTokens)];
      const PartCache& part = trial.from.parts.front();
      part.base[part.plan.offset(0, page, trial.first % kPageTokens)] ^= std::byte{1};
    } else {
      lines.back() = static_cast<char>(lines.back() ^ 1);
    }
    EXPECT_THAT(message(assembly, lines), HasSubstr("checksum"));
  }
}

TEST(Assembly, GapsAndOverlapsAreRefused) {
  for (const std::int64_t begin : {1, 21}) {
    Trial trial(kGrouped, 1, 1, 5);
    trial.first = 0;
    trial.end = 64;
    Assembly assembly = trial.assembly();
    ASSERT_TRUE(feed(assembly, trial.lines(1, 0, 20, false)).ok());
    EXPECT_THAT(message(assembly, trial.lines(1, begin, 40, false)), HasSubstr("20 is due"));
  }
}

TEST(Assembly, HeadsThatDoNotGoTogetherAreRefused) {
  Trial halves(kGrouped, 2, 1, 6);
  halves.first = 0;
  halves.end = 64;
  Assembly assembly = halves.assembly();
  std::string one;
  append_lines(halves.from.parts[0], {kId, 0, 0, 10, halves.from_pages}, one);
  ASSERT_TRUE(feed(assembly, one).ok());
  Trial whole(kGrouped, 1, 1, 6);
  std::string both;
  append_lines(whole.from.parts[0], {kId, 0, 10, 20, whole.from_pages}, both);
  EXPECT_THAT(message(assembly, both), HasSubstr("do not go together"));
}

TEST(Assembly, NumbersOutsideThePlanAreRefused) {
  const auto refused = [](const std::function<void(RecordHead&)>& change, bool shared = false) {
    Trial trial(kGrouped, 1, 1, 7);
    trial.first = 0;
    Assembly assembly = trial.assembly();
    return message(assembly, with_head(trial.lines(0, 0, 1, shared), change));
  };
  EXPECT_THAT(refused([](RecordHead& h) { h.layer = 3; }), HasSubstr("layer 3"));
  EXPECT_THAT(refused([](RecordHead& h) { h.layer = -1; }), HasSubstr("layer -1"));
  EXPECT_THAT(refused([](RecordHead& h) { h.first = -1; }), HasSubstr("tokens -1"));
  EXPECT_THAT(refused([](RecordHead& h) { h.tokens = INT64_MAX; }), HasSubstr("wanted are"));
  EXPECT_THAT(refused([](RecordHead& h) { h.first = INT64_MAX; }), HasSubstr("wanted are"));
  EXPECT_THAT(refused([](RecordHead& h) { h.tokens = 0; }), HasSubstr("wanted are"));
  EXPECT_THAT(refused([](RecordHead& h) { h.first_head = 4; }), HasSubstr("heads 4"));
  EXPECT_THAT(refused([](RecordHead& h) { h.heads = INT32_MAX; }), HasSubstr("wanted are"));
  EXPECT_THAT(refused([](RecordHead& h) { h.dtype = 0; }), HasSubstr("dtype 0"));
  EXPECT_THAT(refused([](RecordHead& h) { h.tokens = 2; }), HasSubstr("bytes of lines"));
  EXPECT_THAT(refused([](RecordHead& h) { h.cache = 1; }, true), HasSubstr("shared cache 1"));
  EXPECT_THAT(refused([](RecordHead& h) { h.tokens = 70; }, true), HasSubstr("page numbers"));
  EXPECT_THAT(refused([](RecordHead& h) { h.heads = 1; }, true), HasSubstr("heads told"));
}

TEST(Assembly, APageThatTheSharedCacheDoesNotHaveIsRefused) {
  Trial trial(kLatent, 1, 1, 8);
  trial.first = 0;
  Assembly assembly = trial.assembly();
  trial.from_pages[0] = kPages;
  std::string out;
  RecordHead head{
      .kind = RecordKind::SharedLines,
      .tokens = 1,
      .heads = 1,
      .dtype = static_cast<std::uint32_t>(kLatent.dtype)};
  head.set_id(kId);
  append_record(head, std::as_bytes(std::span(trial.from_pages).first(1)), out);
  EXPECT_THAT(message(assembly, out), HasSubstr("page 9 of 9"));
}

TEST(Assembly, ACommitIsBelievedOnlyWhenEverythingIsHere) {
  Trial trial(kGrouped, 2, 1, 9);
  Assembly early = trial.assembly();
  EXPECT_THAT(message(early, trial.commit()), HasSubstr("missing"));

  Assembly miscounted = trial.assembly();
  ASSERT_TRUE(feed(miscounted, trial.all(false)).ok());
  ++trial.sent.records;
  EXPECT_THAT(message(miscounted, trial.commit()), HasSubstr("a commit of"));
}

TEST(Assembly, TheSendersWordsAreTheError) {
  Trial trial(kLatent, 1, 1, 10);
  Assembly assembly = trial.assembly();
  RecordHead head{.kind = RecordKind::Failed};
  head.set_id(kId);
  const std::string_view why = "the group of ranks broke";
  std::string out;
  append_record(head, std::as_bytes(std::span(why)), out);
  const auto fed = feed(assembly, out);
  ASSERT_FALSE(fed.ok());
  EXPECT_EQ(fed.error().kind, ErrorKind::Unavailable);
  EXPECT_EQ(fed.error().message, why);
}

}  // namespace
}  // namespace pleiad::kv
