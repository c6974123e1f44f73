#include "bench/router/paced_worker.h"

#include <iterator>
#include <span>
#include <utility>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "api/worker_report.h"

namespace pleiad::bench {

PacedWorker::PacedWorker(std::string secret, Nanoseconds step, std::int64_t vocabulary)
    : secret_(std::move(secret)), step_(step), vocabulary_(vocabulary) {
  server_ = net::HttpServer::listen(
                loop_,
                {},
                [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
                  answer(request, std::move(responder));
                }
  ).value();
  timer_ = loop_.after(step_, [this] { run_step(); });
  thread_ = std::thread([this] { loop_.run(); });
}

PacedWorker::~PacedWorker() {
  loop_.stop();
  thread_.join();
  streams_.clear();
  server_.reset();
}

std::string PacedWorker::url() const {
  return "http://127.0.0.1:" + std::to_string(server_->port());
}

void PacedWorker::answer(
    const net::HttpRequest& request,
    std::unique_ptr<net::Responder> responder
) {
  if (request.path != "/internal/report") {
    generate(request, std::move(responder));
    return;
  }
  const api::WorkerReport report{
      .instance = "bench",
      .identity =
          {.version = "1", .model = "m", .digest = "d", .compute = "none", .page_tokens = 64},
      .limits = {.vocabulary = vocabulary_, .model_tokens_max = 1 << 20},
      .accepting = true,
      .ranks = {{.accepting = true, .pages_total = 1024}},
  };
  responder->respond({.body = to_json(report).dump()});
}

void PacedWorker::generate(
    const net::HttpRequest& request,
    std::unique_ptr<net::Responder> responder
) {
  auto message = api::decode_submit(std::as_bytes(std::span(request.body)));
  if (!message.ok()) {
    responder->respond({.status = 400});
    return;
  }
  const std::uint64_t number = next_++;
  responder->on_disconnect([this, number](net::DisconnectReason /*reason*/) {
    streams_.erase(number);
  });
  responder->start_stream(200, {});
  Stream stream{
      .responder = std::move(responder),
      .position = static_cast<std::int32_t>(message->request.prompt.size()),
      .left = message->request.max_tokens,
  };
  if (write_token(stream)) streams_.emplace(number, std::move(stream));
}

bool PacedWorker::write_token(Stream& stream) {
  std::string bytes;
  const auto token = static_cast<TokenId>(300 + stream.position % (vocabulary_ - 600));
  api::append_token(
      bytes, {.request = api::RequestId(1), .chosen = {token, -1.0F}, .position = stream.position++}
  );
  const bool last = --stream.left == 0;
  if (last) {
    api::append_finish(bytes, {.request = api::RequestId(1), .reason = api::FinishReason::Length});
  }
  stream.responder->write(bytes);
  if (last) stream.responder->finish();
  return !last;
}

void PacedWorker::run_step() {
  const SystemClock clock;
  const Nanoseconds begin = clock.now();
  for (auto at = streams_.begin(); at != streams_.end();) {
    at = write_token(at->second) ? std::next(at) : streams_.erase(at);
  }
  const Nanoseconds taken = clock.now() - begin;
  timer_ = loop_.after(taken < step_ ? step_ - taken : Nanoseconds{0}, [this] { run_step(); });
}

}  // namespace pleiad::bench
