#include "server/event_inbox.h"

#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

using testing::ElementsAre;

TEST(EventInbox, HandsEventsOverInOrderOnTheLoopThread) {
  net::EventLoop loop;
  std::vector<TokenId> seen;
  EventInbox inbox(loop, [&](InboxEvent& event) {
    EXPECT_TRUE(loop.on_loop_thread());
    seen.push_back(std::get<api::TokenEvent>(event.what).chosen.token);
    if (seen.size() == 1000) loop.stop();
  });
  std::thread producer([&] {
    for (TokenId id = 0; id < 1000; ++id) {
      inbox.push({.session = nullptr, .choice = 0, .what = event_of(id)});
    }
  });

  loop.run();
  producer.join();

  for (TokenId id = 0; id < 1000; ++id) {
    EXPECT_EQ(seen[id], id);
  }
}

TEST(EventInbox, TakesEventsPushedByItsHandler) {
  net::EventLoop loop;
  std::vector<std::size_t> choices;
  EventInbox* self = nullptr;
  EventInbox inbox(loop, [&](InboxEvent& event) {
    choices.push_back(event.choice);
    if (choices.size() < 3)
      self->push({.session = nullptr, .choice = event.choice + 1, .what = {}});
    if (choices.size() == 3) loop.stop();
  });
  self = &inbox;

  inbox.push({.session = nullptr, .choice = 0, .what = {}});
  loop.run();

  EXPECT_THAT(choices, ElementsAre(0U, 1U, 2U));
}

TEST(InboxSink, LabelsWhatItReceives) {
  net::EventLoop loop;
  std::vector<std::size_t> kinds;
  EventInbox inbox(loop, [&](InboxEvent& event) {
    EXPECT_EQ(event.choice, 5U);
    kinds.push_back(event.what.index());
    if (kinds.size() == 3) loop.stop();
  });
  // The inbox carries the address and never follows it.
  alignas(std::max_align_t) char place[1] = {};
  auto& session = reinterpret_cast<CompletionSession&>(place);
  InboxSink sink(inbox, session, 5);

  sink.on_prompt_token(event_of(1));
  sink.on_token(event_of(2));
  sink.on_finish({});
  loop.run();

  EXPECT_THAT(kinds, ElementsAre(0U, 1U, 2U));
}

}  // namespace
}  // namespace pleiad::server
