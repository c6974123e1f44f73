#include "server/completion_session.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "net/sse.h"
#include "server/admission_answer.h"

namespace pleiad::server {
namespace {

constexpr int kClientGone = 499;  // as proxies log it; never sent

// Choices of one request draw from streams of their own.
std::uint64_t seed_of_choice(std::uint64_t seed, std::size_t choice) {
  return seed + 0x9E3779B97F4A7C15ULL * choice;
}

template <typename T>
void append_moved(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

CompletionSession::CompletionSession(Parts parts)
    : parts_(std::move(parts)), prefix_(answer_prefix(parts_.identity)) {
  names_.tokenizer = parts_.text->tokenizer ? &*parts_.text->tokenizer : nullptr;
  names_.as_ids = parts_.request.tokens_as_ids;
}

void CompletionSession::start() {
  parts_.responder->on_disconnect([this](net::DisconnectReason) { on_disconnect(); });
  if (status_ != 0) return;
  const std::size_t per_prompt = static_cast<std::size_t>(parts_.request.n);
  const std::size_t count = parts_.prompts.size() * per_prompt;
  for (std::size_t i = 0; i < count; ++i) {
    slots_.push_back(std::make_unique<Slot>(i / per_prompt, InboxSink(*parts_.inbox, *this, i)));
  }
  for (const PreparedPrompt& prompt : parts_.prompts) {
    usage_.prompt_tokens += static_cast<std::int64_t>(prompt.tokens.size());
  }
  if (parts_.gate == nullptr) {
    begin();
    return;
  }
  waiting_ = true;
  starting_ = true;
  ticket_ = parts_.gate->enter(arrival(), [this](const api::AdmissionVerdict& verdict) {
    on_verdict(verdict);
  });
  starting_ = false;
}

api::Arrival CompletionSession::arrival() const {
  const CompletionRequest& request = parts_.request;
  api::Arrival out = parts_.arrival;
  out.prompt_tokens = usage_.prompt_tokens;
  out.output_tokens_max = static_cast<std::int64_t>(slots_.size()) * *request.max_tokens;
  return out;
}

void CompletionSession::on_verdict(const api::AdmissionVerdict& verdict) {
  waiting_ = false;
  if (const auto* refusal = std::get_if<api::AdmissionRefusal>(&verdict)) {
    rates_ = refusal->rates;
    fail(refusal_error(*refusal));
  } else {
    const auto& grant = std::get<api::AdmissionGrant>(verdict);
    rates_ = grant.rates;
    granted_priority_ = grant.priority;
    begin();
  }
  if (!starting_) parts_.on_settled(*this);
}

void CompletionSession::on_disconnect() {
  status_ = kClientGone;
  cancel_all();
  if (!std::exchange(waiting_, false)) return;
  leave_gate();
  // Nothing else will come; and the session may not go while its responder calls it.
  parts_.loop->post([this] { parts_.on_settled(*this); });
}

void CompletionSession::leave_gate() {
  if (!ticket_) return;
  const api::AdmissionTicket ticket = *std::exchange(ticket_, std::nullopt);
  parts_.gate->leave(ticket, tokens_spent());
}

std::int64_t CompletionSession::tokens_spent() const {
  std::int64_t tokens = 0;
  bool submitted = false;
  for (const auto& slot : slots_) {
    submitted = submitted || slot->request.has_value();
    if (slot->choice) tokens += slot->choice->output_tokens();
  }
  return submitted ? usage_.prompt_tokens + tokens : 0;
}

void CompletionSession::begin() {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto submitted = submit(i);
    if (!submitted.ok()) {
      fail(from_error(submitted.error()));
      return;
    }
  }
  if (parts_.request.stream && parts_.keep_alive > Nanoseconds::zero()) await_silence();
}

Result<void> CompletionSession::submit(std::size_t index) {
  Slot& slot = *slots_[index];
  PLEIAD_TRY(choice, Choice::create(choice_options()));
  slot.choice.emplace(std::move(choice));
  api::GenerationRequest request = generation_request(index);
  if (request.prompt_top_logprobs) {
    slot.prompt_scores.emplace(parts_.prompts[slot.prompt], names_.tokenizer);
  }
  PLEIAD_TRY(id, parts_.generator->submit(std::move(request), slot.sink));
  slot.request = id;
  ++unfinished_;
  return {};
}

ChoiceOptions CompletionSession::choice_options() const {
  const CompletionRequest& request = parts_.request;
  return {
      .tokenizer = names_.tokenizer,
      .stop = request.stop,
      .stop_tokens = request.stop_tokens,
      .include_stop = request.include_stop,
      .skip_special = request.skip_special_tokens,
      .logprobs = request.top_logprobs.has_value(),
      .token_ids = wants_token_ids(),
  };
}

api::GenerationRequest CompletionSession::generation_request(std::size_t index) const {
  const CompletionRequest& request = parts_.request;
  api::GenerationRequest out{
      .prompt = parts_.prompts[slots_[index]->prompt].tokens,
      .max_tokens = *request.max_tokens,
      .sampling = request.sampling,
      .stop_tokens = request.stop_tokens,
      .ignore_eos = request.ignore_eos,
      .top_logprobs = request.top_logprobs,
      .prompt_top_logprobs = request.prompt_logprobs,
      .cache_salt = request.cache_salt,
      .priority = granted_priority_.value_or(request.priority),
      .session = request.session,
  };
  if (request.echo && request.top_logprobs) {
    out.prompt_top_logprobs = std::max(request.prompt_logprobs.value_or(0), *request.top_logprobs);
  }
  out.sampling.seed = seed_of_choice(request.sampling.seed, number_of(index));
  return out;
}

// Which of its prompt's choices it is.
std::size_t CompletionSession::number_of(std::size_t index) const {
  return index % static_cast<std::size_t>(parts_.request.n);
}

bool CompletionSession::wants_token_ids() const {
  return parts_.request.return_token_ids || names_.tokenizer == nullptr;
}

void CompletionSession::on_event(InboxEvent& event) {
  Slot& slot = *slots_[event.choice];
  if (const auto* placed = std::get_if<api::PlacedEvent>(&event.what)) {
    const bool is_new = std::ranges::find(places_, placed->place) == places_.end();
    if (is_new) places_.push_back(placed->place);
    return;
  }
  const auto* finish = std::get_if<api::FinishEvent>(&event.what);
  if (finish != nullptr) {
    --unfinished_;
    slot.generated = true;
  }
  if (status_ != 0) return;
  if (const auto* prompt = std::get_if<PromptTokenEvent>(&event.what)) {
    if (slot.prompt_scores) slot.prompt_scores->add(prompt->event);
    return;
  }
  if (finish != nullptr) {
    finish_choice(event.choice, *finish);
  } else {
    slot.choice->push(std::get<api::TokenEvent>(event.what));
  }
  if (status_ == 0) advance(event.choice);
}

void CompletionSession::finish_choice(std::size_t index, const api::FinishEvent& event) {
  // Choices of one prompt find each other's pages; the first tells what was there before.
  if (number_of(index) == 0) usage_.cached_tokens += event.cached_tokens;
  Choice& choice = *slots_[index]->choice;
  if (choice.stopped()) return;
  switch (event.reason) {
    case api::FinishReason::Stop:
    case api::FinishReason::Length:
      choice.end(event);
      return;
    case api::FinishReason::Error:
      fail(
          event.for_client
              ? ApiError{.status = 500, .type = "server_error", .message = event.message}
              : from_error(internal_error("{}", event.message))
      );
      return;
    case api::FinishReason::Lost:
      fail(from_error(unavailable("the service lost one of its ranks while it answered; ask again"))
      );
      return;
    case api::FinishReason::Cancelled:
      fail(from_error(unavailable("the server is shutting down")));
      return;
  }
}

// Shows what became certain about a choice. The answer ends when the generator is done with every
// choice: only then are the totals known.
void CompletionSession::advance(std::size_t index) {
  Slot& slot = *slots_[index];
  if (!slot.closed) {
    if (parts_.request.stream) {
      stream(index);
    } else {
      gather(slot);
    }
    if (slot.choice->stopped()) close_choice(slot);
  }
  if (unfinished_ > 0) return;
  if (parts_.request.stream) {
    end_stream();
  } else {
    answer();
  }
}

void CompletionSession::gather(Slot& slot) {
  ChoiceDelta delta = slot.choice->take();
  slot.gathered.text += delta.text;
  append_moved(slot.gathered.scores, std::move(delta.scores));
  append_moved(slot.gathered.token_ids, std::move(delta.token_ids));
}

void CompletionSession::start_stream() {
  streaming_ = true;
  net::HttpHeaders headers = {
      {"Content-Type", "text/event-stream; charset=utf-8"},
      {"Cache-Control", "no-cache"},
      {"X-Accel-Buffering", "no"},
  };
  add_headers(headers);
  parts_.responder->start_stream(200, headers);
}

// What every answer says of the request, as far as it is known.
void CompletionSession::add_headers(net::HttpHeaders& headers) const {
  headers.add("x-request-id", parts_.request_id);
  add_rate_headers(rates_, headers);
  std::string places;
  for (const std::string& place : places_) {
    places += (places.empty() ? "" : ", ") + place;
  }
  if (!places.empty()) headers.add("x-served-by", std::move(places));
}

void CompletionSession::stream(std::size_t index) {
  Slot& slot = *slots_[index];
  if (!streaming_) start_stream();
  const bool first = !std::exchange(slot.begun, true);
  // A chat's first delta names the role and carries no text.
  if (first && endpoint() == Endpoint::Chat) send_chunk({.index = index, .role = true});
  ChoiceDelta delta = slot.choice->take();
  if (first && parts_.request.echo) prepend_echo(slot, delta);
  const bool last = slot.choice->stopped();
  if (!last && delta.empty()) return;
  send_chunk({
      .index = index,
      .text = delta.text,
      .logprobs = !delta.scores.empty(),
      .scores = delta.scores,
      .token_ids = wants_token_ids(),
      .ids = delta.token_ids,
      .finish_reason = last ? &slot.choice->finish_reason() : nullptr,
      .stop_reason_json = slot.choice->stop_reason_json(),
  });
}

void CompletionSession::send_chunk(const ChoiceView& view) {
  body_ = prefix_;
  append_choice(parts_.identity, names_, view, body_);
  append_suffix(parts_.request.include_usage ? UsageForm::Null : UsageForm::Absent, usage_, body_);
  event_.clear();
  net::append_sse_data(body_, event_);
  parts_.responder->write(event_);
  silent_ = false;
}

void CompletionSession::await_silence() {
  silent_ = true;
  keep_alive_timer_ = parts_.loop->after(parts_.keep_alive, [this] { keep_alive(); });
}

// Before the first token this begins the stream: a failure after it is an event, not a status.
void CompletionSession::keep_alive() {
  if (status_ != 0) return;
  if (silent_) {
    if (!streaming_) start_stream();
    event_.clear();
    net::append_sse_comment("keep-alive", event_);
    parts_.responder->write(event_);
  }
  await_silence();
}

// Puts the prompt's text and scores before the first output.
void CompletionSession::prepend_echo(const Slot& slot, ChoiceDelta& delta) const {
  const PreparedPrompt& prompt = parts_.prompts[slot.prompt];
  delta.text.insert(0, prompt.text);
  if (!parts_.request.top_logprobs) return;
  for (ScoredToken& token : delta.scores) {
    token.text_offset += characters_in(prompt.text);
  }
  auto scores =
      slot.prompt_scores->with_top(static_cast<std::size_t>(*parts_.request.top_logprobs));
  append_moved(scores, std::move(delta.scores));
  delta.scores = std::move(scores);
}

void CompletionSession::close_choice(Slot& slot) {
  slot.closed = true;
  usage_.completion_tokens += slot.choice->output_tokens();
  // A stop string ends the choice before the engine knows.
  if (!slot.generated) parts_.generator->finish_early(*slot.request);
}

void CompletionSession::answer() {
  status_ = 200;
  std::string body = prefix_;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = *slots_[i];
    if (parts_.request.echo) prepend_echo(slot, slot.gathered);
    if (i > 0) body += ',';
    append_choice(
        parts_.identity,
        names_,
        {
            .index = i,
            .text = slot.gathered.text,
            .logprobs = parts_.request.top_logprobs.has_value(),
            .scores = slot.gathered.scores,
            .token_ids = wants_token_ids(),
            .ids = slot.gathered.token_ids,
            .finish_reason = &slot.choice->finish_reason(),
            .stop_reason_json = slot.choice->stop_reason_json(),
            .prompt_scores = parts_.request.prompt_logprobs ? slot.prompt_scores->tokens()
                                                            : std::span<const ScoredToken>{},
        },
        body
    );
  }
  append_suffix(UsageForm::Totals, usage_, body);
  net::HttpHeaders headers = {{"Content-Type", "application/json"}};
  add_headers(headers);
  headers.add("x-cached-tokens", std::to_string(usage_.cached_tokens));
  parts_.responder->respond({
      .status = 200,
      .headers = std::move(headers),
      .body = std::move(body),
  });
}

void CompletionSession::end_stream() {
  status_ = 200;
  event_.clear();
  if (parts_.request.include_usage) {
    body_ = prefix_;
    append_suffix(UsageForm::Totals, usage_, body_);
    net::append_sse_data(body_, event_);
  }
  net::append_sse_data("[DONE]", event_);
  parts_.responder->write(event_);
  parts_.responder->finish();
}

// A stream that fails must never end cleanly: an error event, then a cut connection.
void CompletionSession::fail(const ApiError& error) {
  status_ = error.status;
  if (streaming_) {
    event_.clear();
    net::append_sse_data(error_json(error), event_);
    parts_.responder->write(event_);
    parts_.responder->abort();
  } else {
    net::HttpResponse response = error_response(error, parts_.retry_spread);
    add_headers(response.headers);
    parts_.responder->respond(response);
  }
  cancel_all();
}

void CompletionSession::cancel_all() {
  for (const auto& slot : slots_) {
    if (slot->request && !slot->generated) parts_.generator->cancel(*slot->request);
  }
}

}  // namespace pleiad::server
