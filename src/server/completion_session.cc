#include "server/completion_session.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "net/sse.h"

namespace pleiad::server {
namespace {

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
  parts_.responder->on_disconnect([this](net::DisconnectReason) {
    answered_ = true;
    cancel_all();
  });
  if (answered_) return;
  const std::size_t per_prompt = static_cast<std::size_t>(parts_.request.n);
  const std::size_t count = parts_.prompts.size() * per_prompt;
  open_ = count;
  for (std::size_t i = 0; i < count; ++i) {
    slots_.push_back(std::unique_ptr<Slot>(new Slot{
        .prompt = i / per_prompt,
        .sink = InboxSink(*parts_.inbox, *this, i),
    }));
  }
  for (const PreparedPrompt& prompt : parts_.prompts) {
    usage_.prompt_tokens += static_cast<std::int64_t>(prompt.tokens.size());
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto submitted = submit(*slots_[i], i);
    if (!submitted.ok()) {
      fail(from_error(submitted.error()));
      return;
    }
  }
}

Result<void> CompletionSession::submit(Slot& slot, std::size_t index) {
  PLEIAD_TRY(choice, Choice::create(choice_options()));
  slot.choice.emplace(std::move(choice));
  const std::size_t number = index % static_cast<std::size_t>(parts_.request.n);
  PLEIAD_TRY(id, parts_.generator->submit(generation_request(slot.prompt, number), slot.sink));
  slot.request = id;
  ++unfinished_;
  return {};
}

ChoiceOptions CompletionSession::choice_options() const {
  const CompletionRequest& request = parts_.request;
  return {
      .tokenizer = names_.tokenizer,
      .stop = request.stop,
      .include_stop = request.include_stop,
      .skip_special = request.skip_special_tokens,
      .logprobs = request.top_logprobs.has_value(),
      .token_ids = request.return_token_ids || names_.tokenizer == nullptr,
  };
}

api::GenerationRequest CompletionSession::generation_request(std::size_t prompt, std::size_t choice)
    const {
  const CompletionRequest& request = parts_.request;
  api::GenerationRequest out{
      .prompt = parts_.prompts[prompt].tokens,
      .max_tokens = *request.max_tokens,
      .sampling = request.sampling,
      .stop_tokens = request.stop_tokens,
      .ignore_eos = request.ignore_eos,
      .top_logprobs = request.top_logprobs,
      .prompt_top_logprobs = request.prompt_logprobs,
      .cache_salt = request.cache_salt,
      .priority = request.priority,
  };
  out.sampling.seed = seed_of_choice(request.sampling.seed, choice);
  return out;
}

void CompletionSession::on_event(InboxEvent& event) {
  Slot& slot = *slots_[event.choice];
  if (const auto* finish = std::get_if<api::FinishEvent>(&event.what)) {
    --unfinished_;
    slot.generated = true;
    if (answered_) return;
    finish_choice(slot, *finish);
  } else if (const auto* prompt = std::get_if<PromptTokenEvent>(&event.what)) {
    if (!answered_) add_prompt_score(slot, prompt->event);
    return;
  } else {
    if (answered_ || slot.closed) return;
    slot.choice->push(std::get<api::TokenEvent>(event.what));
  }
  if (!answered_) advance(event.choice);
}

void CompletionSession::add_prompt_score(Slot& slot, const api::TokenEvent& event) const {
  const auto& tokens = parts_.prompts[slot.prompt].tokens;
  const auto offset_of = [this](const ScoredToken& token) {
    const std::size_t bytes =
        names_.tokenizer == nullptr ? 0 : names_.tokenizer->token_bytes(token.chosen.token).size();
    return token.text_offset + bytes;
  };
  if (slot.prompt_scores.empty()) {
    slot.prompt_scores.push_back({.chosen = {tokens[0], 0.0F}, .scored = false});
  }
  slot.prompt_scores.push_back(scored_token(event, offset_of(slot.prompt_scores.back())));
}

void CompletionSession::finish_choice(Slot& slot, const api::FinishEvent& event) {
  usage_.cached_tokens += event.cached_tokens;
  if (slot.closed) return;
  switch (event.reason) {
    case api::FinishReason::Stop:
    case api::FinishReason::Length:
      slot.choice->end(event);
      return;
    case api::FinishReason::Error:
      fail(from_error(internal_error("{}", event.message)));
      return;
    case api::FinishReason::Cancelled:
      fail(from_error(unavailable("the server is shutting down")));
      return;
  }
}

// Shows what became certain about a choice.
void CompletionSession::advance(std::size_t index) {
  Slot& slot = *slots_[index];
  if (slot.closed) return;
  if (parts_.request.stream) {
    advance_stream(index);
  } else {
    ChoiceDelta delta = slot.choice->take();
    slot.gathered.text += delta.text;
    append_moved(slot.gathered.scores, std::move(delta.scores));
    append_moved(slot.gathered.token_ids, std::move(delta.token_ids));
  }
  if (slot.choice->stopped()) close_choice(slot);
  if (open_ > 0 || answered_) return;
  if (parts_.request.stream) {
    end_stream();
  } else {
    answer();
  }
}

void CompletionSession::advance_stream(std::size_t index) {
  Slot& slot = *slots_[index];
  if (!streaming_) {
    streaming_ = true;
    net::HttpHeaders headers;
    headers.add("Content-Type", "text/event-stream; charset=utf-8");
    headers.add("Cache-Control", "no-cache");
    headers.add("X-Accel-Buffering", "no");
    headers.add("x-request-id", parts_.request_id);
    parts_.responder->start_stream(200, std::move(headers));
  }
  // A chat's first delta names the role and carries no text.
  if (parts_.identity.endpoint == Endpoint::Chat && !slot.role_sent) {
    slot.role_sent = true;
    buffer_ = prefix_;
    append_choice(parts_.identity, names_, {.index = index, .role = true}, buffer_);
    append_suffix(
        parts_.request.include_usage ? UsageForm::Null : UsageForm::Absent, usage_, buffer_
    );
    std::string event;
    net::append_sse_data(buffer_, event);
    parts_.responder->write(event);
  }
  ChoiceDelta delta = slot.choice->take();
  if (parts_.request.echo && !slot.echo_sent) {
    slot.echo_sent = true;
    prepend_echo(slot, delta);
  }
  const bool last = slot.choice->stopped();
  if (last || !delta.empty()) send_chunk(index, delta, last);
}

void CompletionSession::send_chunk(std::size_t index, const ChoiceDelta& delta, bool last) {
  const Slot& slot = *slots_[index];
  const bool token_ids = parts_.request.return_token_ids || names_.tokenizer == nullptr;
  buffer_ = prefix_;
  append_choice(
      parts_.identity,
      names_,
      {
          .index = index,
          .text = delta.text,
          .logprobs = !delta.scores.empty(),
          .scores = delta.scores,
          .token_ids = token_ids,
          .ids = delta.token_ids,
          .finish_reason = last ? &slot.choice->finish_reason() : nullptr,
          .stop_reason_json = slot.choice->stop_reason_json(),
      },
      buffer_
  );
  append_suffix(
      parts_.request.include_usage ? UsageForm::Null : UsageForm::Absent, usage_, buffer_
  );
  std::string event;
  net::append_sse_data(buffer_, event);
  parts_.responder->write(event);
}

// Puts the prompt's text and scores before the first output.
void CompletionSession::prepend_echo(Slot& slot, ChoiceDelta& delta) const {
  const PreparedPrompt& prompt = parts_.prompts[slot.prompt];
  delta.text.insert(0, prompt.text);
  for (ScoredToken& token : delta.scores)
    token.text_offset += prompt.text.size();
  if (parts_.request.top_logprobs) {
    std::vector<ScoredToken> scores = slot.prompt_scores;
    // A prompt of one token has no score to report, but a place in the lists.
    if (scores.empty()) scores.push_back({.chosen = {prompt.tokens[0], 0.0F}, .scored = false});
    append_moved(scores, std::move(delta.scores));
    delta.scores = std::move(scores);
  }
}

void CompletionSession::close_choice(Slot& slot) {
  slot.closed = true;
  --open_;
  usage_.completion_tokens += slot.choice->output_tokens();
  // A stop string ends the choice before the engine knows.
  if (!slot.generated) parts_.generator->cancel(*slot.request);
}

void CompletionSession::answer() {
  answered_ = true;
  const bool logprobs = parts_.request.top_logprobs.has_value();
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
            .logprobs = logprobs,
            .scores = slot.gathered.scores,
            .token_ids = parts_.request.return_token_ids || names_.tokenizer == nullptr,
            .ids = slot.gathered.token_ids,
            .finish_reason = &slot.choice->finish_reason(),
            .stop_reason_json = slot.choice->stop_reason_json(),
            .prompt_scores = parts_.request.echo ? std::span<const ScoredToken>{}
                                                 : std::span<const ScoredToken>(slot.prompt_scores),
        },
        body
    );
  }
  append_suffix(UsageForm::Totals, usage_, body);
  net::HttpResponse response{.status = 200, .body = std::move(body)};
  response.headers.add("Content-Type", "application/json");
  response.headers.add("x-request-id", parts_.request_id);
  parts_.responder->respond(std::move(response));
}

void CompletionSession::end_stream() {
  answered_ = true;
  std::string out;
  if (parts_.request.include_usage) {
    buffer_ = prefix_;
    append_suffix(UsageForm::Totals, usage_, buffer_);
    net::append_sse_data(buffer_, out);
  }
  net::append_sse_data("[DONE]", out);
  parts_.responder->write(out);
  parts_.responder->finish();
}

// A stream that fails must never end cleanly: an error event, then a cut connection.
void CompletionSession::fail(const ApiError& error) {
  answered_ = true;
  if (streaming_) {
    std::string out;
    net::append_sse_data(error_json(error), out);
    parts_.responder->write(out);
    parts_.responder->abort();
  } else {
    net::HttpResponse response = error_response(error);
    response.headers.add("x-request-id", parts_.request_id);
    parts_.responder->respond(std::move(response));
  }
  cancel_all();
}

void CompletionSession::cancel_all() {
  for (const auto& slot : slots_) {
    if (slot->request && !slot->generated) parts_.generator->cancel(*slot->request);
  }
}

}  // namespace pleiad::server
