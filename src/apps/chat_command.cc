#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <unistd.h>

#include "apps/commands.h"
#include "apps/serve_instance.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "net/http_client.h"
#include "net/sse.h"
#include "net/url.h"

namespace pleiad::apps {
namespace {

struct ChatFlags {
  std::string target = "http://127.0.0.1:8000";
  std::string key;
  std::string system;
  std::string message;  // one question instead of a conversation
  std::int32_t max_tokens = 512;
  std::optional<double> temperature;
  std::optional<std::int64_t> seed;
};

// Reads one streamed answer: prints text as it comes, keeps it, and counts.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(const Clock& clock) : clock_(clock), begin_(clock.now()) {}

  void on_event(const net::SseEvent& event) {
    if (event.data == "[DONE]") {
      complete_ = true;
      return;
    }
    const auto chunk = parse_json(event.data);
    if (!chunk.ok()) return;
    if (const Json* error = chunk->find("error")) {
      const Json* message = error->find("message");
      failure_ = message != nullptr && message->is_string() ? *message->as_string() : error->dump();
      return;
    }
    if (const Json* usage = chunk->find("usage"); usage != nullptr && usage->is_object()) {
      const Json* tokens = usage->find("completion_tokens");
      if (tokens != nullptr) tokens_ = tokens->as_int().value_or(0);
    }
    const Json* choices = chunk->find("choices");
    if (choices == nullptr || !choices->is_array() || choices->as_array()->empty()) return;
    const Json* delta = choices->as_array()->front().find("delta");
    const Json* content = delta == nullptr ? nullptr : delta->find("content");
    if (content != nullptr && content->is_string()) show(*content->as_string());
  }

  // One line of figures, on stderr so that stdout holds the answer alone.
  void print_figures() const {
    const double decode_seconds = to_seconds(last_ - first_);
    const double rate =
        decode_seconds > 0.0 ? static_cast<double>(tokens_ - 1) / decode_seconds : 0.0;
    fmt::print(
        stderr,
        "[{} tokens, {:.1f} tok/s, first after {:.0f} ms]\n",
        tokens_,
        rate,
        to_seconds(first_ - begin_) * 1e3
    );
  }

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] bool complete() const { return complete_; }

 private:
  void show(const std::string& piece) {
    if (piece.empty()) return;
    last_ = clock_.now();
    if (text_.empty()) first_ = last_;
    text_ += piece;
    std::fputs(piece.c_str(), stdout);
    std::fflush(stdout);
  }

  const Clock& clock_;
  Nanoseconds begin_;
  Nanoseconds first_{};
  Nanoseconds last_{};
  std::int64_t tokens_ = 0;
  std::string text_;
  std::string failure_;
  bool complete_ = false;
};

net::HttpClientRequest
chat_request(const net::Url& server, const ChatFlags& flags, const JsonArray& messages) {
  Json options;
  options.set("include_usage", true);
  Json body;
  body.set("model", "");
  body.set("messages", messages);
  body.set("max_tokens", flags.max_tokens);
  body.set("stream", true);
  body.set("stream_options", std::move(options));
  if (flags.temperature) body.set("temperature", *flags.temperature);
  if (flags.seed) body.set("seed", *flags.seed);
  net::HttpClientRequest request{.method = "POST", .url = server, .body = body.dump()};
  request.url.target = "/v1/chat/completions";
  request.headers.add("Content-Type", "application/json");
  if (!flags.key.empty()) request.headers.add("Authorization", "Bearer " + flags.key);
  return request;
}

// Sends the conversation and streams the answer to stdout. The answer's text, or what went wrong.
Result<std::string> ask(const net::Url& server, const ChatFlags& flags, const JsonArray& messages) {
  const SystemClock clock;
  net::EventLoop loop;
  net::HttpClient client(loop);
  AnswerPrinter printer(clock);
  net::SseParser parser;
  int status = 0;
  std::string error_text;
  Result<void> ended;
  net::UniqueFunction<void(const net::SseEvent&)> on_event = [&](const net::SseEvent& event) {
    printer.on_event(event);
  };
  const net::HttpCall call = client.send(
      chat_request(server, flags, messages),
      {
          .on_head = [&](const net::HttpResponseHead& head) { status = head.status; },
          .on_body =
              [&](std::string_view bytes) {
                if (status != 200) {
                  error_text += bytes;
                } else if (const auto fed = parser.feed(bytes, on_event); !fed.ok()) {
                  error_text = fed.error().message;
                }
              },
          .on_end =
              [&](Result<void> result) {
                ended = std::move(result);
                loop.stop();
              },
      }
  );
  loop.run();
  std::puts("");
  if (!printer.failure().empty()) return unavailable("{}", printer.failure());
  if (!ended.ok()) return ended.error();
  if (status != 200 || !error_text.empty()) return unavailable("status {}: {}", status, error_text);
  if (!printer.complete()) return unavailable("the answer broke off");
  printer.print_figures();
  return printer.text();
}

Json message_json(std::string_view role, std::string_view content) {
  Json message;
  message.set("role", role);
  message.set("content", content);
  return message;
}

int converse(const net::Url& server, const ChatFlags& flags) {
  JsonArray messages;
  if (!flags.system.empty()) messages.push_back(message_json("system", flags.system));
  const bool once = !flags.message.empty();
  const bool terminal = isatty(STDIN_FILENO) != 0;
  std::string line = flags.message;
  for (;;) {
    if (!once) {
      if (terminal) fmt::print(stderr, "> ");
      if (!std::getline(std::cin, line)) return 0;
      if (line.empty()) continue;
    }
    messages.push_back(message_json("user", line));
    auto answer = ask(server, flags, messages);
    if (!answer.ok()) {
      fmt::print(stderr, "pleiad chat: {}\n", answer.error().message);
      if (once) return 1;
      messages.pop_back();
      continue;
    }
    if (once) return 0;
    messages.push_back(message_json("assistant", *answer));
  }
}

int chat(const ChatFlags& flags) {
  std::string url = flags.target;
  std::unique_ptr<ServeInstance> own;
  if (!url.starts_with("http://")) {
    set_log_level(LogLevel::Warning);
    ServeSettings settings{.port = 0};
    settings.load.model = flags.target;
    auto started = ServeInstance::start(std::move(settings));
    if (!started.ok()) {
      fmt::print(stderr, "pleiad chat: {}\n", started.error().message);
      return 1;
    }
    own = *std::move(started);
    url = own->url();
  }
  const auto server = net::parse_url(url);
  if (!server.ok()) {
    fmt::print(stderr, "pleiad chat: {}\n", server.error().message);
    return 2;
  }
  return converse(*server, flags);
}

}  // namespace

void add_chat_command(CLI::App& app, Command& chosen) {
  CLI::App* verb = app.add_subcommand(
      "chat", "Chat with a server, or with a model folder served for the occasion"
  );
  // Shared by the parser, which fills it, and the command, which runs after.
  auto flags = std::make_shared<ChatFlags>();
  verb->add_option("target", flags->target, "URL of a server, or a model folder")
      ->capture_default_str();
  verb->add_option("--api-key", flags->key, "Key to send");
  verb->add_option("--system", flags->system, "System message");
  verb->add_option("-m,--message", flags->message, "Ask this one question and end");
  verb->add_option("--max-tokens", flags->max_tokens, "Longest answer, in tokens")
      ->capture_default_str();
  verb->add_option(
      "--temperature",
      flags->temperature,
      "Sampling temperature, 0 to 2; unset: the server's default"
  );
  verb->add_option("--seed", flags->seed, "Seed of the sampling; unset: drawn by the server");
  verb->callback([&chosen, flags] { chosen = [flags] { return chat(*flags); }; });
}

}  // namespace pleiad::apps
