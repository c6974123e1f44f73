#include "server/peer_api.h"

#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "server/api_error.h"
#include "server/server_info.h"

namespace pleiad::server {
namespace {

constexpr std::string_view kGenerate = "generate";
constexpr std::string_view kReport = "report";
constexpr std::string_view kFinish = "finish/";

ApiError not_found_error(std::string_view path) {
  return {.status = 404, .message = "there is no route " + std::string(path)};
}

}  // namespace

// One request of a peer: its events go straight into the answer. Events on the generator's thread,
// all else on the loop's, before the first event or after the last.
class PeerApi::Stream final : public api::GenerationSink {
 public:
  Stream(PeerApi& owner, std::uint64_t number, std::unique_ptr<net::Responder> responder)
      : owner_(owner), number_(number), responder_(std::move(responder)) {}

  void on_prompt_token(const api::TokenEvent& event) override {
    frame_.clear();
    api::append_prompt_token(frame_, event);
    send();
  }
  void on_token(const api::TokenEvent& event) override {
    frame_.clear();
    api::append_token(frame_, event);
    send();
  }
  void on_finish(const api::FinishEvent& event) override {
    frame_.clear();
    api::append_finish(frame_, event);
    send();
    responder_->finish();
    owner_.loop_.post([owner = &owner_, number = number_] { owner->forget(number); });
  }

  net::Responder& responder() { return *responder_; }

  std::optional<api::RequestId> id;  // once accepted
  bool gone = false;                 // the peer hung up before that

 private:
  void send() {
    if (!begun_) responder_->start_stream(200, {{"Content-Type", "application/octet-stream"}});
    begun_ = true;
    responder_->write(frame_);
  }

  PeerApi& owner_;
  std::uint64_t number_;
  std::unique_ptr<net::Responder> responder_;
  std::string frame_;  // of one event; keeps its memory
  bool begun_ = false;
};

PeerApi::PeerApi(api::Generator& generator, net::EventLoop& loop, Options options)
    : generator_(generator),
      loop_(loop),
      options_(std::move(options)),
      keys_(std::vector<std::string>{options_.secret}) {}

PeerApi::~PeerApi() = default;

void PeerApi::handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  const auto authorization = request.headers.find("authorization");
  if (options_.secret.empty() || !authorization || !keys_.admits(*authorization)) {
    responder->respond(error_response(
        {.status = 401, .message = "this route is for peers that know the cluster's secret"}
    ));
    return;
  }
  const std::string_view name = std::string_view(request.path).substr(kPrefix.size());
  if (name == kReport && request.method == "GET") {
    responder->respond(json_response(to_json(options_.report())));
  } else if (meant_for_another(request)) {
    responder->respond(error_response(
        {.status = 503, .message = "the worker was started again; this was meant for before"}
    ));
  } else if (name == kGenerate && request.method == "POST") {
    generate(request, std::move(responder));
  } else if (name.starts_with(kFinish) && request.method == "POST") {
    finish(name.substr(kFinish.size()), *responder);
  } else {
    responder->respond(error_response(not_found_error(request.path)));
  }
}

bool PeerApi::meant_for_another(const net::HttpRequest& request) const {
  const auto meant = request.headers.find(api::kInstanceHeader);
  return meant && *meant != options_.instance;
}

void PeerApi::generate(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder) {
  auto message = api::decode_submit(std::as_bytes(std::span(request.body)));
  if (!message.ok()) {
    responder->respond(error_response({.status = 400, .message = message.error().message}));
    return;
  }
  const std::uint64_t number = next_stream_++;
  auto owned = std::make_unique<Stream>(*this, number, std::move(responder));
  Stream& stream = *owned;
  streams_.emplace(number, std::move(owned));
  stream.responder().on_disconnect([this, number](net::DisconnectReason /*reason*/) {
    hang_up(number);
  });
  if (stream.gone) {
    streams_.erase(number);
    return;
  }
  auto accepted = generator_.submit(std::move(message->request), stream);
  if (accepted.ok()) {
    stream.id = *accepted;
    return;
  }
  stream.responder().respond(error_response(from_error(accepted.error())));
  streams_.erase(number);
}

// A request that has finished is not known any more.
void PeerApi::hang_up(std::uint64_t number) {
  const auto at = streams_.find(number);
  if (at == streams_.end()) return;
  at->second->gone = true;
  if (at->second->id) generator_.cancel(*at->second->id);
}

void PeerApi::finish(std::string_view id, net::Responder& responder) {
  std::uint64_t number = 0;
  const auto [end, failure] = std::from_chars(id.data(), id.data() + id.size(), number);
  if (failure != std::errc{} || end != id.data() + id.size()) {
    responder.respond(error_response({.status = 400, .message = "no request's id"}));
    return;
  }
  generator_.finish_early(api::RequestId(number));
  responder.respond({.status = 204});
}

void PeerApi::forget(std::uint64_t number) {
  streams_.erase(number);
}

}  // namespace pleiad::server
