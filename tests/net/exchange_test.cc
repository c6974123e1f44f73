#include "net/detail/exchange.h"

#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

class ExchangeOfOneRequest : public testing::Test {
 protected:
  EventLoop loop_;
  Exchange exchange_{loop_, {}, {.unsent_bytes_max = 1000}};
};

TEST_F(ExchangeOfOneRequest, CollectsManyWritesTogether) {
  exchange_.start_stream(200, {});
  exchange_.write("a");
  exchange_.write("");
  exchange_.write("bc");
  exchange_.finish();

  const Exchange::Output output = exchange_.collect();

  EXPECT_THAT(output.bytes, EndsWith("\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"));
  EXPECT_EQ(output.phase, Exchange::Phase::Finished);
  EXPECT_TRUE(output.keep_alive);
  EXPECT_EQ(exchange_.collect().bytes, "");
}

TEST_F(ExchangeOfOneRequest, CountsBytesUntilTheyAreSent) {
  exchange_.start_stream(200, {});
  const std::size_t head_bytes = exchange_.collect().bytes.size();
  EXPECT_EQ(exchange_.unsent_bytes(), head_bytes);

  exchange_.sent(head_bytes);

  EXPECT_EQ(exchange_.unsent_bytes(), 0U);
}

TEST_F(ExchangeOfOneRequest, OverflowsWhenNobodyReads) {
  exchange_.start_stream(200, {});
  const std::string piece(400, 'x');
  EXPECT_TRUE(exchange_.write(piece));
  EXPECT_FALSE(exchange_.collect().overflowed);
  EXPECT_TRUE(exchange_.write(piece));
  EXPECT_TRUE(exchange_.write(piece));

  EXPECT_FALSE(exchange_.write(piece));

  EXPECT_TRUE(exchange_.collect().overflowed);
  EXPECT_TRUE(exchange_.disconnected());
  EXPECT_FALSE(exchange_.write("x"));
}

TEST_F(ExchangeOfOneRequest, TellsTheWatcherOnce) {
  int told = 0;
  exchange_.on_disconnect([&told](DisconnectReason) { ++told; });
  EXPECT_TRUE(exchange_.collect().watched);

  exchange_.detach(DisconnectReason::ClientGone);
  exchange_.detach(DisconnectReason::ClientGone);

  EXPECT_EQ(told, 1);
}

TEST_F(ExchangeOfOneRequest, LetsTheWatcherGoWithTheAnswer) {
  auto owned = std::make_shared<int>(0);  // owners: this test and the watcher
  exchange_.on_disconnect([owned](DisconnectReason) { ++*owned; });

  exchange_.respond({.body = "x"});

  EXPECT_EQ(owned.use_count(), 1);
  exchange_.detach(DisconnectReason::ClientGone);
  EXPECT_EQ(*owned, 0);
}

TEST_F(ExchangeOfOneRequest, ForbidsKeepAliveBeforeTheHead) {
  exchange_.forbid_keep_alive();
  exchange_.respond({});

  const Exchange::Output output = exchange_.collect();

  EXPECT_FALSE(output.keep_alive);
  EXPECT_THAT(output.bytes, HasSubstr("Connection: close\r\n"));
}

}  // namespace
}  // namespace pleiad::net
