#include "tests/router/fake_worker.h"

#include <utility>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "base/check.h"
#include "base/hash.h"

namespace pleiad::router {
namespace {

TokenId next_token(std::span<const TokenId> tokens) {
  return static_cast<TokenId>(hash64(std::as_bytes(tokens)) % 1000);
}

}  // namespace

FakeWorker::FakeWorker(Script script, std::size_t dp_ranks)
    : script_(std::move(script)),
      report_{
          .instance = "first",
          .identity =
              {.version = "1",
               .model = "m",
               .digest = "d",
               .compute = "float32",
               .page_tokens = 64},
          .limits = {.vocabulary = 1000, .model_tokens_max = 4096},
          .accepting = true,
          .ranks =
              std::vector<api::GeneratorStatus>(dp_ranks, {.accepting = true, .pages_total = 64})} {
  server_ = net::HttpServer::listen(
                loop_,
                {},
                [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
                  handle(request, std::move(responder));
                }
  ).value();
  thread_ = std::thread([this] { loop_.run(); });
}

FakeWorker::~FakeWorker() {
  loop_.stop();
  thread_.join();
  silent_.clear();
  server_.reset();
}

std::string FakeWorker::url() const {
  return "http://127.0.0.1:" + std::to_string(server_->port());
}

void FakeWorker::set_report(const std::function<void(api::WorkerReport&)>& change) {
  const std::scoped_lock lock(mutex_);
  change(report_);
}

std::vector<api::GenerationRequest> FakeWorker::requests() const {
  const std::scoped_lock lock(mutex_);
  return requests_;
}

std::vector<TokenId> FakeWorker::answer(std::vector<TokenId> prompt, std::int32_t max_tokens) {
  std::vector<TokenId> out;
  for (std::int32_t i = 0; i < max_tokens; ++i) {
    out.push_back(next_token(prompt));
    prompt.push_back(out.back());
  }
  return out;
}

void FakeWorker::handle(
    const net::HttpRequest& request,
    std::unique_ptr<net::Responder> responder
) {
  const auto key = request.headers.find("authorization");
  if (!key || *key != "Bearer " + std::string(kSecret)) {
    responder->respond({.status = 401});
  } else if (request.path == "/internal/report") {
    const std::scoped_lock lock(mutex_);
    responder->respond({.body = to_json(report_).dump()});
  } else if (!meant_for_this_start(request)) {
    responder->respond({.status = 503});
  } else if (request.path.starts_with("/internal/finish/")) {
    ++finished_early_;
    responder->respond({.status = 204});
    silent_.clear();  // and with it the request's connection
  } else {
    auto message = api::decode_submit(std::as_bytes(std::span(request.body)));
    PLEIAD_CHECK(message.ok());
    generate(message->request, std::move(responder));
  }
}

bool FakeWorker::meant_for_this_start(const net::HttpRequest& request) const {
  const std::scoped_lock lock(mutex_);
  return request.headers.find(api::kInstanceHeader) == report_.instance;
}

void FakeWorker::generate(
    const api::GenerationRequest& request,
    std::unique_ptr<net::Responder> responder
) {
  {
    const std::scoped_lock lock(mutex_);
    requests_.push_back(request);
  }
  const FakeAnswer script = script_(request);
  if (script.end == FakeAnswer::End::Full || script.end == FakeAnswer::End::Wrong) {
    const bool full = script.end == FakeAnswer::End::Full;
    responder->respond(
        {.status = full ? 503 : 400, .body = R"({"error":{"message":"because of a test"}})"}
    );
    return;
  }
  responder->on_disconnect([this](net::DisconnectReason /*reason*/) { ++hung_up_; });
  responder->start_stream(200, {});
  const std::int32_t count = std::min(script.tokens, request.max_tokens);
  auto position = static_cast<std::int32_t>(request.prompt.size());
  std::string bytes;
  for (const TokenId token : answer(request.prompt, count)) {
    api::append_token(
        bytes, {.request = api::RequestId(7), .chosen = {token, -1.0F}, .position = position++}
    );
  }
  api::FinishEvent finish{
      .request = api::RequestId(7), .reason = api::FinishReason::Length, .cached_tokens = 2};
  switch (script.end) {
    case FakeAnswer::End::Finish:
      break;
    case FakeAnswer::End::Lost:
      finish.reason = api::FinishReason::Lost;
      break;
    case FakeAnswer::End::Leaving:
      finish.reason = api::FinishReason::Cancelled;
      break;
    case FakeAnswer::End::Break:
      responder->write(bytes);
      responder->abort();
      return;
    default:
      responder->write(bytes);
      silent_.push_back(std::move(responder));
      return;
  }
  api::append_finish(bytes, finish);
  responder->write(bytes);
  responder->finish();
}

}  // namespace pleiad::router
