#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/admission.h"
#include "api/generation.h"
#include "base/clock.h"
#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/responder.h"
#include "server/choice.h"
#include "server/completion_json.h"
#include "server/completion_request.h"
#include "server/event_inbox.h"
#include "server/prompt.h"
#include "server/prompt_scores.h"

namespace pleiad::server {

// One client's completion request from the moment its prompts are ready: submits every choice,
// turns events into a whole answer or a stream, and cancels when the client goes away. Where there
// is a gate it waits there first. Lives until every submitted choice has finished, even when the
// answer is long sent. Loop thread only.
class CompletionSession {
 public:
  struct Parts {
    api::Generator* generator = nullptr;
    api::AdmissionGate* gate = nullptr;  // null: everything may start at once
    net::EventLoop* loop = nullptr;
    EventInbox* inbox = nullptr;
    const ModelText* text = nullptr;
    AnswerIdentity identity;
    CompletionRequest request;  // REQUIRES: max_tokens is set
    std::vector<PreparedPrompt> prompts;
    api::Arrival arrival;  // without its tokens
    std::unique_ptr<net::Responder> responder;
    std::string request_id;          // told as x-request-id
    std::uint32_t retry_spread = 0;  // see error_response
    // A stream that was silent this long gets a comment, so that proxies keep it open; told after
    // at most twice as long. 0: never.
    Nanoseconds keep_alive{};
    // Called when the session may have become done outside start() and on_event(); may destroy it.
    std::function<void(CompletionSession&)> on_settled;
  };

  explicit CompletionSession(Parts parts);
  CompletionSession(const CompletionSession&) = delete;
  CompletionSession& operator=(const CompletionSession&) = delete;

  // Submits the choices, at once or when the gate lets it. A refusal is answered at once and what
  // was submitted is cancelled.
  void start();
  void on_event(InboxEvent& event);
  // True when nothing will come from the generator any more: the session may go.
  [[nodiscard]] bool done() const { return unfinished_ == 0 && !waiting_; }
  // Tells the gate that it is over. REQUIRES: done().
  void leave_gate();
  [[nodiscard]] Endpoint endpoint() const { return parts_.identity.endpoint; }
  // How it ended, as a status: 200, that of the error (in mid-stream too), or 499 when the client
  // went away; 0 before.
  [[nodiscard]] int status() const { return status_; }

 private:
  struct Slot {
    Slot(std::size_t prompt_index, const InboxSink& events) : prompt(prompt_index), sink(events) {}

    std::size_t prompt;  // whose continuation it is
    InboxSink sink;
    std::optional<api::RequestId> request;
    std::optional<Choice> choice;
    std::optional<PromptScores> prompt_scores;  // when they are wanted
    ChoiceDelta gathered;                       // of a whole answer
    bool begun = false;                         // its first chunk is sent
    bool generated = false;                     // on_finish came
    bool closed = false;                        // its last chunk is sent, or its text is complete
  };

  void on_disconnect();
  [[nodiscard]] api::Arrival arrival() const;
  void on_verdict(const api::AdmissionVerdict& verdict);
  void begin();
  [[nodiscard]] std::int64_t tokens_spent() const;
  void add_headers(net::HttpHeaders& headers) const;
  Result<void> submit(std::size_t index);
  [[nodiscard]] ChoiceOptions choice_options() const;
  [[nodiscard]] api::GenerationRequest generation_request(std::size_t index) const;
  [[nodiscard]] std::size_t number_of(std::size_t index) const;
  [[nodiscard]] bool wants_token_ids() const;
  void finish_choice(std::size_t index, const api::FinishEvent& event);
  void advance(std::size_t index);
  void gather(Slot& slot);
  void start_stream();
  void stream(std::size_t index);
  void send_chunk(const ChoiceView& view);
  void await_silence();
  void keep_alive();
  void prepend_echo(const Slot& slot, ChoiceDelta& delta) const;
  void close_choice(Slot& slot);
  void answer();
  void end_stream();
  void fail(const ApiError& error);
  void cancel_all();

  Parts parts_;
  std::string prefix_;  // answer_prefix
  TokenNames names_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::optional<api::AdmissionTicket> ticket_;
  bool waiting_ = false;   // at the gate
  bool starting_ = false;  // inside start()
  std::optional<std::int32_t> granted_priority_;
  api::RateStates rates_;
  std::vector<std::string> places_;  // that worked at it, each once
  std::size_t unfinished_ = 0;       // submitted choices without on_finish
  bool streaming_ = false;           // the head of the stream is sent
  int status_ = 0;                   // not 0: everything is said, or nobody listens
  bool silent_ = true;               // nothing was sent since the timer was set
  net::Timer keep_alive_timer_;
  Usage usage_;
  std::string body_;   // of one chunk
  std::string event_;  // the same as an event
};

}  // namespace pleiad::server
