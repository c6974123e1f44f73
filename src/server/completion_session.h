#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "net/responder.h"
#include "server/choice.h"
#include "server/completion_json.h"
#include "server/completion_request.h"
#include "server/event_inbox.h"
#include "server/prompt.h"

namespace pleiad::server {

// One client's completion request from the moment its prompts are ready: submits every choice,
// turns events into a whole answer or a stream, and cancels when the client goes away. Lives until
// every submitted choice has finished, even when the answer is long sent. Loop thread only.
class CompletionSession {
 public:
  struct Parts {
    api::Generator* generator = nullptr;
    EventInbox* inbox = nullptr;
    const ModelText* text = nullptr;
    AnswerIdentity identity;
    CompletionRequest request;
    std::vector<PreparedPrompt> prompts;
    std::unique_ptr<net::Responder> responder;
    std::string request_id;  // told as x-request-id
  };

  explicit CompletionSession(Parts parts);
  CompletionSession(const CompletionSession&) = delete;
  CompletionSession& operator=(const CompletionSession&) = delete;

  // Submits the choices. A refusal is answered at once and what was submitted is cancelled.
  void start();
  void on_event(InboxEvent& event);
  // True when nothing will come from the generator any more: the session may go.
  [[nodiscard]] bool done() const { return unfinished_ == 0; }

 private:
  struct Slot {
    std::size_t prompt = 0;  // whose continuation it is
    InboxSink sink;
    std::optional<api::RequestId> request;
    std::optional<Choice> choice;
    std::vector<ScoredToken> prompt_scores;  // the first entry is unscored
    ChoiceDelta gathered;                    // of a whole answer
    bool role_sent = false;
    bool echo_sent = false;
    bool generated = false;  // on_finish came
    bool closed = false;     // its last chunk is sent, or its text is complete
  };

  Result<void> submit(Slot& slot, std::size_t index);
  [[nodiscard]] ChoiceOptions choice_options() const;
  [[nodiscard]] api::GenerationRequest generation_request(std::size_t prompt, std::size_t choice)
      const;
  void add_prompt_score(Slot& slot, const api::TokenEvent& event) const;
  void finish_choice(Slot& slot, const api::FinishEvent& event);
  void advance(std::size_t index);
  void advance_stream(std::size_t index);
  void send_chunk(std::size_t index, const ChoiceDelta& delta, bool last);
  void prepend_echo(Slot& slot, ChoiceDelta& delta) const;
  void close_choice(Slot& slot);
  void answer();
  void end_stream();
  void fail(const ApiError& error);
  void cancel_all();

  Parts parts_;
  std::string prefix_;  // answer_prefix
  TokenNames names_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::size_t unfinished_ = 0;  // submitted choices without on_finish
  std::size_t open_ = 0;        // choices that are not closed
  bool streaming_ = false;      // the head of the stream is sent
  bool answered_ = false;
  Usage usage_;
  std::string buffer_;  // of one chunk
};

}  // namespace pleiad::server
