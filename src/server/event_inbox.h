#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <variant>
#include <vector>

#include "api/generation.h"
#include "net/event_loop.h"

namespace pleiad::server {

class CompletionSession;

// A score of a prompt token, as opposed to an output token.
struct PromptTokenEvent {
  api::TokenEvent event;
};

// Something the generator produced for choice `choice` of `session`.
struct InboxEvent {
  CompletionSession* session = nullptr;
  std::size_t choice = 0;
  std::variant<PromptTokenEvent, api::TokenEvent, api::FinishEvent, api::PlacedEvent> what;
};

// Carries events from the generator's thread to the event loop: all that gather while the loop is
// busy travel in one wake. push() from any thread; the handler runs on the loop thread, in order.
class EventInbox {
 public:
  using Handler = std::function<void(InboxEvent& event)>;

  // `loop` must outlive the inbox, and the inbox the last event.
  EventInbox(net::EventLoop& loop, Handler handler) : loop_(loop), handler_(std::move(handler)) {}

  void push(InboxEvent event);

 private:
  void drain();

  net::EventLoop& loop_;
  Handler handler_;
  std::mutex mutex_;  // guards pending_ and scheduled_
  std::vector<InboxEvent> pending_;
  bool scheduled_ = false;
  std::vector<InboxEvent> draining_;  // loop thread only; keeps its memory between drains
};

// One choice's sink: labels what it receives and puts it into the inbox.
class InboxSink final : public api::GenerationSink {
 public:
  InboxSink(EventInbox& inbox, CompletionSession& session, std::size_t choice)
      : inbox_(inbox), session_(session), choice_(choice) {}

  void on_prompt_token(const api::TokenEvent& event) override {
    inbox_.push({&session_, choice_, PromptTokenEvent{event}});
  }
  void on_placed(const api::PlacedEvent& event) override {
    inbox_.push({&session_, choice_, event});
  }
  void on_token(const api::TokenEvent& event) override { inbox_.push({&session_, choice_, event}); }
  void on_finish(const api::FinishEvent& event) override {
    inbox_.push({&session_, choice_, event});
  }

 private:
  EventInbox& inbox_;
  CompletionSession& session_;
  std::size_t choice_;
};

}  // namespace pleiad::server
