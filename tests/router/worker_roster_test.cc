#include "router/worker_roster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kA = "http://a";

// A table and nothing behind it.
class TablePool final : public WorkerPool {
 public:
  explicit TablePool(const WorkerTable::Options& options = {}) : table_(options) {}
  Result<void> add_worker(const std::string& url, std::optional<api::Role> wanted) override {
    PLEIAD_TRY(table_.add(url, wanted));
    return {};
  }
  Result<void> remove_worker(std::string_view url) override {
    const auto worker = table_.find(url);
    if (!worker) return not_found("there is no worker {}", url);
    table_.remove(*worker);
    return {};
  }
  const WorkerTable& table() const override { return table_; }

  bool has(const char* url) const { return table_.find(url).has_value(); }
  void reports(const char* url) { table_.reported(*table_.find(url), {.ranks = {{}}}); }
  void is_lost(const char* url) { table_.lost(*table_.find(url), "silent"); }

 private:
  WorkerTable table_;
};

TEST(WorkerRoster, WhoRegistersIsThereUntilItNeitherSaysSoNorAnswers) {
  TablePool pool;
  WorkerRoster roster(pool);
  EXPECT_TRUE(roster.renew(kA, seconds(10), seconds(0)).value());
  pool.reports(kA);
  EXPECT_FALSE(roster.renew(kA, seconds(10), seconds(5)).value()) << "known already";

  pool.is_lost(kA);
  EXPECT_THAT(roster.sweep(seconds(14)), IsEmpty()) << "its lease lasts";
  pool.reports(kA);
  EXPECT_THAT(roster.sweep(seconds(20)), IsEmpty()) << "it answers";
  pool.is_lost(kA);
  EXPECT_THAT(roster.sweep(seconds(20)), ElementsAre(kA));
  EXPECT_FALSE(pool.has(kA));

  EXPECT_TRUE(roster.renew(kA, seconds(10), seconds(30)).value()) << "it is back";
  EXPECT_TRUE(pool.has(kA));
}

TEST(WorkerRoster, WhoNeverAnsweredIsRemovedToo) {
  TablePool pool;
  WorkerRoster roster(pool);
  EXPECT_TRUE(roster.renew(kA, seconds(1), seconds(0)).ok());
  EXPECT_THAT(roster.sweep(seconds(1)), ElementsAre(kA));
}

TEST(WorkerRoster, WhoSaysThatItGoesStaysWhileItAnswers) {
  TablePool pool;
  WorkerRoster roster(pool);
  EXPECT_FALSE(roster.give_up(kA, seconds(0))) << "unknown";
  EXPECT_TRUE(roster.renew(kA, seconds(10), seconds(0)).ok());
  pool.reports(kA);

  EXPECT_TRUE(roster.give_up(kA, seconds(1)));
  EXPECT_THAT(roster.sweep(seconds(2)), IsEmpty());
  pool.is_lost(kA);
  EXPECT_THAT(roster.sweep(seconds(2)), ElementsAre(kA));
}

TEST(WorkerRoster, AnOperatorsWorkerHasNoLease) {
  TablePool pool;
  WorkerRoster roster(pool);
  EXPECT_TRUE(roster.add(kA).ok());
  EXPECT_FALSE(roster.add(kA).ok()) << "twice";
  EXPECT_FALSE(roster.renew(kA, seconds(1), seconds(0)).value());
  EXPECT_FALSE(roster.leases().has(kA));

  EXPECT_THAT(roster.sweep(seconds(9)), IsEmpty());
  EXPECT_TRUE(pool.has(kA));
}

TEST(WorkerRoster, AnOperatorMayTakeOverWhoRegistered) {
  TablePool pool;
  WorkerRoster roster(pool);
  EXPECT_TRUE(roster.renew(kA, seconds(1), seconds(0)).ok());
  EXPECT_TRUE(roster.add(kA).ok());
  EXPECT_THAT(roster.sweep(seconds(9)), IsEmpty());
  EXPECT_TRUE(pool.has(kA));
}

TEST(WorkerRoster, WhomAnOperatorRemovedStaysAwayUntilTakenIn) {
  TablePool pool;
  WorkerRoster roster(pool);
  EXPECT_FALSE(roster.remove(kA).ok()) << "unknown";
  EXPECT_TRUE(roster.renew(kA, seconds(1), seconds(0)).ok());
  EXPECT_TRUE(roster.remove(kA).ok());

  const auto back = roster.renew(kA, seconds(1), seconds(1));
  EXPECT_EQ(back.error().kind, ErrorKind::Unsupported);
  EXPECT_THAT(back.error().message, HasSubstr("POST /workers"));
  EXPECT_FALSE(pool.has(kA));
  EXPECT_TRUE(roster.add(kA).ok());
  EXPECT_TRUE(roster.renew(kA, seconds(1), seconds(2)).ok());
}

TEST(WorkerRoster, AFullPoolTakesNobodyAndRemembersNothing) {
  TablePool pool({.workers_max = 1});
  WorkerRoster roster(pool);
  EXPECT_TRUE(roster.renew(kA, seconds(9), seconds(0)).ok());
  EXPECT_THAT(roster.renew("http://b", seconds(9), seconds(0)).error().message, HasSubstr("many"));
  EXPECT_FALSE(roster.leases().has("http://b"));
}

}  // namespace
}  // namespace pleiad::router
