#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"
#include "server/openai_service.h"
#include "tests/net/raw_client.h"
#include "tests/server/fake_generator.h"

namespace pleiad::server {

inline ServiceOptions default_service_options() {
  return {
      .model_names = {"fable", "fable-alias"},
      .version = "1.2.3",
      .ep_report = [] { return parse_json(R"({"ep_size": 2})").value(); },
  };
}

// The fable tokenizer and template, or neither.
inline ModelText model_text(bool with_tokenizer) {
  ModelText out;
  if (!with_tokenizer) return out;
  const std::string folder = PLEIAD_SOURCE_DIR "/models/fable/";
  out.tokenizer =
      *text::Tokenizer::load(folder + "tokenizer.json", folder + "tokenizer_config.json");
  out.chat_template = *text::ChatTemplate::compile(
      "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>"
      "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
  );
  out.bos_token = "<|bos|>";
  return out;
}

// The service over a real server on a free port, in front of a fake generator.
class LiveService {
 public:
  explicit LiveService(
      FakeGenerator::Writer writer,
      ServiceOptions options = default_service_options(),
      bool with_tokenizer = true,
      api::AdmissionGate* gate = nullptr
  )
      : text_(model_text(with_tokenizer)),
        generator_(std::make_unique<FakeGenerator>(std::move(writer))),
        service_(std::make_unique<OpenaiService>(
            ServiceParts{
                .loop = &loop_,
                .text_loop = &text_loop_,
                .generator = generator_.get(),
                .text = &text_,
                .metrics = &metrics_,
                .clock = &clock_,
                .gate = gate,
            },
            std::move(options)
        )) {
    auto listening = net::HttpServer::listen(
        loop_,
        {},
        [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
          service_->handle(std::move(request), std::move(responder));
        }
    );
    server_ = *std::move(listening);
    loop_thread_ = std::thread([this] { loop_.run(); });
    text_thread_ = std::thread([this] { text_loop_.run(); });
  }
  LiveService(const LiveService&) = delete;
  LiveService& operator=(const LiveService&) = delete;
  ~LiveService() {
    loop_.stop();
    text_loop_.stop();
    loop_thread_.join();
    text_thread_.join();
    generator_.reset();
    service_.reset();
    server_.reset();
  }

  // Answers every request with `text`.
  static FakeGenerator::Writer says(std::string_view text) {
    return
        [tokens = encode(text)](const api::GenerationRequest&) { return Script{.tokens = tokens}; };
  }
  // Answers with `text` and goes on until it is cancelled.
  static FakeGenerator::Writer goes_on_after(std::string_view text) {
    return [tokens = encode(text)](const api::GenerationRequest&) {
      return Script{.tokens = tokens, .open = true};
    };
  }

  FakeGenerator& generator() { return *generator_; }
  OpenaiService& service() { return *service_; }
  FakeClock& clock() { return clock_; }
  [[nodiscard]] std::string metrics() const { return metrics_.render(); }
  [[nodiscard]] net::RawClient connect() const { return net::RawClient(server_->port()); }

  // Runs `task` on the loop thread and waits for it.
  void on_loop(net::Task task) {
    std::promise<void> done;
    loop_.post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  // Waits until every session is gone.
  void wait_until_idle() {
    for (std::size_t open = 1; open > 0;) {
      on_loop([&] { open = service_->open_sessions(); });
    }
  }

  Result<net::HttpResponse> fetch(net::HttpClientRequest request, std::string target) const {
    request.url = {.host = "127.0.0.1", .port = server_->port(), .target = std::move(target)};
    return net::http_fetch(std::move(request));
  }
  [[nodiscard]] net::HttpResponse get(std::string target) const {
    return *fetch({}, std::move(target));
  }
  [[nodiscard]] net::HttpResponse post(std::string target, std::string body) const {
    return *fetch(
        {.method = "POST",
         .headers = {{"Content-Type", "application/json"}},
         .body = std::move(body)},
        std::move(target)
    );
  }

  // A POST as it goes over the wire.
  [[nodiscard]] static std::string wire(std::string_view target, std::string_view body) {
    return fmt::format(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: {}\r\n\r\n{}",
        target,
        body.size(),
        body
    );
  }

 private:
  FakeClock clock_;
  MetricsRegistry metrics_;
  ModelText text_;
  net::EventLoop loop_;
  net::EventLoop text_loop_;
  std::unique_ptr<FakeGenerator> generator_;
  std::unique_ptr<OpenaiService> service_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread loop_thread_;
  std::thread text_thread_;
};

// The data of each event of a stream; "[DONE]" as it is.
inline std::vector<std::string> events_of(std::string_view body) {
  std::vector<std::string> out;
  net::SseParser parser;
  net::UniqueFunction<void(const net::SseEvent&)> collect = [&](const net::SseEvent& event) {
    out.push_back(event.data);
  };
  EXPECT_TRUE(parser.feed(body, collect).ok());
  return out;
}

inline std::string chat_body(std::string_view members = {}) {
  return R"({"messages": [{"role": "user", "content": "hi"}])" +
         (members.empty() ? "" : ", " + std::string(members)) + "}";
}

inline std::string prompt_body(std::string_view prompt, std::string_view members = {}) {
  return R"({"prompt": )" + std::string(prompt) +
         (members.empty() ? "" : ", " + std::string(members)) + "}";
}

inline constexpr const char* kChat = "/v1/chat/completions";
inline constexpr const char* kCompletions = "/v1/completions";

}  // namespace pleiad::server
