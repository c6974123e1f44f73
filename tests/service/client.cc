#include "tests/service/client.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace pleiad::service {
namespace {

constexpr std::chrono::milliseconds kAgain{20};

void append(JsonArray& to, const Json* from) {
  const JsonArray* values = from == nullptr ? nullptr : from->as_array();
  if (values != nullptr) to.insert(to.end(), values->begin(), values->end());
}

// An answer of the API, or a piece of one.
void add(Answer& answer, const Json& json) {
  if (const Json* error = json.find("error")) {
    const Json* message = error->find("message");
    answer.error = message == nullptr ? error->dump() : *message->as_string();
  }
  if (const Json* usage = json.find("usage"); usage != nullptr && usage->is_object()) {
    answer.prompt_tokens = usage->find("prompt_tokens")->as_int().value();
    answer.output_tokens = usage->find("completion_tokens")->as_int().value();
  }
  const Json* choices = json.find("choices");
  if (choices == nullptr || choices->as_array()->empty()) return;
  const Json& choice = choices->as_array()->front();
  append(answer.tokens, choice.find("token_ids"));
  const Json* logprobs = choice.find("logprobs");
  if (logprobs != nullptr) {
    append(answer.scores, logprobs->find("token_logprobs"));
    append(answer.alternatives, logprobs->find("top_logprobs"));
  }
  const Json* reason = choice.find("finish_reason");
  if (reason != nullptr && reason->is_string()) answer.finish_reason = *reason->as_string();
}

std::string first_difference(const JsonArray& some, const JsonArray& right, const char* what) {
  if (some.size() > right.size())
    return fmt::format("{} {}, not {}", some.size(), what, right.size());
  const auto at = std::ranges::mismatch(some, right).in1;
  if (at == some.end()) return "";
  const auto index = static_cast<std::size_t>(at - some.begin());
  return fmt::format(
      "{} {} is {}, {} is right", what, index, some[index].dump(), right[index].dump()
  );
}

}  // namespace

std::string difference_so_far(const Answer& answer, const Answer& right) {
  std::string out = first_difference(answer.tokens, right.tokens, "tokens");
  if (out.empty()) out = first_difference(answer.scores, right.scores, "scores");
  if (out.empty()) out = first_difference(answer.alternatives, right.alternatives, "alternatives");
  return out;
}

std::string difference(const Answer& answer, const Answer& right) {
  std::string out = difference_so_far(answer, right);
  if (!out.empty()) return out;
  const bool whole = answer.tokens.size() == right.tokens.size() &&
                     answer.scores.size() == right.scores.size() &&
                     answer.alternatives.size() == right.alternatives.size();
  if (!whole)
    return fmt::format("{} tokens, {} are right", answer.tokens.size(), right.tokens.size());
  if (answer.finish_reason != right.finish_reason)
    return fmt::format("ends by {}, not {}", answer.finish_reason, right.finish_reason);
  const bool usage =
      answer.prompt_tokens == right.prompt_tokens && answer.output_tokens == right.output_tokens;
  return usage ? "" : "its usage is wrong";
}

Client::Client(std::string url)
    : url_(std::move(url)), client_(loop_), thread_([this] { loop_.run(); }) {}

Client::~Client() {
  loop_.stop();
  thread_.join();
}

std::size_t Client::ask(Json body, bool stream) {
  auto question = std::make_unique<Question>();
  if (stream) {
    body.set("stream", true);
    Json options;
    options.set("include_usage", true);
    body.set("stream_options", std::move(options));
  }
  question->body = std::move(body);
  question->stream = stream;
  std::size_t index = 0;
  {
    const std::scoped_lock lock(mutex_);
    index = questions_.size();
    questions_.push_back(std::move(question));
  }
  loop_.post([this, index] { send(index); });
  return index;
}

void Client::send(std::size_t index) {
  Question* found = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    found = questions_[index].get();
    if (found->over) return;
  }
  Question& question = *found;
  question.text.clear();
  question.answer.status = 0;
  question.call = client_.send(
      {.method = "POST",
       .url = net::parse_url(url_ + "/v1/completions").value(),
       .headers = {{"Content-Type", "application/json"}},
       .body = question.body.dump()},
      {.on_head = [&question](const net::HttpResponseHead& head
                  ) { question.answer.status = head.status; },
       .on_body = [this, &question](std::string_view bytes) { take_bytes(question, bytes); },
       .on_end = [this, index](const Result<void>& ended) { take_end(index, ended); }}
  );
}

void Client::take_bytes(Question& question, std::string_view bytes) {
  if (!question.stream || question.answer.status != 200) {
    question.text.append(bytes);
    return;
  }
  net::UniqueFunction<void(const net::SseEvent&)> take = [&](const net::SseEvent& event) {
    take_event(question, event.data);
  };
  const auto fed = question.parser.feed(bytes, take);
  if (!fed.ok()) question.answer.error = fed.error().message;
}

void Client::take_event(Question& question, const std::string& data) {
  if (data == "[DONE]") return;
  const auto json = parse_json(data);
  if (!json.ok()) {
    question.answer.error = json.error().message;
    return;
  }
  add(question.answer, *json);
}

// What is refused for a time is asked again, as clients do.
void Client::take_end(std::size_t index, const Result<void>& ended) {
  Question* found = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    found = questions_[index].get();
  }
  Question& question = *found;
  Answer& answer = question.answer;
  if (!question.text.empty()) {
    const auto json = parse_json(question.text);
    if (json.ok()) add(answer, *json);
  }
  const bool not_taken = answer.error.find("not ready") != std::string::npos ||
                         (answer.status == 429 && answer.tokens.empty());
  if (not_taken) {
    answer = {};
    question.again = loop_.after(kAgain, [this, index] { send(index); });
    return;
  }
  if (!ended.ok()) {
    answer.finish_reason.clear();
    if (answer.error.empty()) answer.error = ended.error().message;
  }
  end(question);
}

void Client::end(Question& question) {
  {
    const std::scoped_lock lock(mutex_);
    question.over = true;
  }
  changed_.notify_all();
}

void Client::cancel(std::size_t index) {
  loop_.post([this, index] {
    Question* found = nullptr;
    {
      const std::scoped_lock lock(mutex_);
      found = questions_[index].get();
      if (found->over) return;
    }
    found->call.cancel();
    found->again.cancel();
    found->answer.cancelled = true;
    end(*found);
  });
}

void Client::watch(const std::string& path) {
  loop_.post([this, path] { look(path); });
}

void Client::look(const std::string& path) {
  watching_ = client_.send(
      {.url = net::parse_url(url_ + path).value()},
      {.on_head =
           [this](const net::HttpResponseHead& head) {
             const std::scoped_lock lock(mutex_);
             if (head.status != 200) sick_ = fmt::format("status {}", head.status);
           },
       .on_end =
           [this, path](const Result<void>& ended) {
             {
               const std::scoped_lock lock(mutex_);
               if (!ended.ok()) sick_ = ended.error().message;
             }
             look_again_ = loop_.after(kAgain, [this, path] { look(path); });
           }}
  );
}

bool Client::wait(std::size_t question, Nanoseconds patience) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return questions_[question]->over; });
}

bool Client::over(std::size_t question) const {
  const std::scoped_lock lock(mutex_);
  return questions_[question]->over;
}

Answer Client::answer(std::size_t question) const {
  const std::scoped_lock lock(mutex_);
  return questions_[question]->answer;
}

std::string Client::sick() const {
  const std::scoped_lock lock(mutex_);
  return sick_;
}

}  // namespace pleiad::service
