#include "router/load_ledger.h"

#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

TEST(LoadLedger, KeepsWhatWasSentUntilItIsDone) {
  LoadLedger ledger;
  ledger.add_unit();
  ledger.add_unit();
  const RequestCost cost{.prefill = 100, .held = 150};

  ledger.begin(1, cost);
  EXPECT_EQ(ledger.load(1).tokens(), 250);
  EXPECT_EQ(ledger.load(0).tokens(), 0);
  ledger.prefilled(1, cost);
  EXPECT_EQ(ledger.load(1).tokens(), 150);
  ledger.end(1, cost, true);
  EXPECT_EQ(ledger.load(1).tokens(), 0);
  ledger.begin(1, cost);
  ledger.end(1, cost, false);  // it never got a token
  EXPECT_EQ(ledger.load(1).tokens(), 0);
  EXPECT_EQ(ledger.load(1).requests, 0);
}

TEST(LoadLedger, WhatOthersSentThereCounts) {
  LoadLedger ledger;
  ledger.add_unit();
  ledger.begin(0, {.prefill = 10, .held = 100});

  ledger.report(0, {.tokens_outstanding = 130});
  EXPECT_EQ(ledger.load(0).foreign, 30);
  ledger.report(0, {.tokens_outstanding = 40});  // the worker has not heard of the request yet
  EXPECT_EQ(ledger.load(0).foreign, 0);
}

}  // namespace
}  // namespace pleiad::router
