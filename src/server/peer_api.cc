#include "server/peer_api.h"

#include <charconv>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "server/api_error.h"
#include "server/server_info.h"

namespace pleiad::server {
namespace {

constexpr std::string_view kGenerate = "generate";
constexpr std::string_view kReport = "report";
constexpr std::string_view kPrefill = "prefill";
constexpr std::string_view kFinish = "finish/";

ApiError not_found_error(std::string_view path) {
  return {.status = 404, .message = "there is no route " + std::string(path)};
}

}  // namespace

// One request of a peer: what it produces goes straight into the answer. Events on the generator's
// thread, all else on the loop's, before the first event or after the last, but for tell_alive().
class PeerApi::Stream : public api::GenerationSink {
 public:
  Stream(PeerApi& owner, std::unique_ptr<net::Responder> responder)
      : owner_(owner), number_(owner.next_stream_++), responder_(std::move(responder)) {}

  [[nodiscard]] net::Responder& responder() const { return *responder_; }
  [[nodiscard]] std::uint64_t number() const { return number_; }

  // The request is accepted, and its answer has not ended: says so when nothing else was said since
  // the last call.
  virtual void tell_alive() {}

  std::optional<api::RequestId> id;  // once accepted
  bool gone = false;                 // the peer hung up before that

 protected:
  bool send(std::string_view bytes) {
    if (!begun_) responder_->start_stream(200, {{"Content-Type", "application/octet-stream"}});
    begun_ = true;
    return responder_->write(bytes);
  }
  // Nothing more comes.
  void end() {
    if (begun_) {
      responder_->finish();
    } else {
      responder_->respond(error_response({.status = 503, .message = "the worker is stopping"}));
    }
    owner_.loop_.post([owner = &owner_, number = number_] { owner->forget(number); });
  }

 private:
  PeerApi& owner_;
  const std::uint64_t number_;
  std::unique_ptr<net::Responder> responder_;
  bool begun_ = false;
};

class PeerApi::TokenStream final : public Stream {
 public:
  using Stream::Stream;

  void on_prompt_token(const api::TokenEvent& event) override {
    const std::scoped_lock lock(mutex_);
    frame_.clear();
    api::append_prompt_token(frame_, event);
    tell();
  }
  void on_token(const api::TokenEvent& event) override {
    const std::scoped_lock lock(mutex_);
    frame_.clear();
    api::append_token(frame_, event);
    tell();
  }
  void on_finish(const api::FinishEvent& event) override {
    {
      const std::scoped_lock lock(mutex_);
      frame_.clear();
      api::append_finish(frame_, event);
      tell();
      finished_ = true;
    }
    end();  // and with it this, maybe at once
  }
  void tell_alive() override {
    const std::scoped_lock lock(mutex_);
    if (!finished_ && !std::exchange(told_, false)) {
      frame_.clear();
      api::append_alive(frame_);
      send(frame_);
    }
  }

 private:
  void tell() {
    told_ = true;
    send(frame_);
  }

  std::mutex mutex_;       // guards what follows, and the answer
  std::string frame_;      // of one event; keeps its memory
  bool told_ = false;      // since tell_alive() was called last
  bool finished_ = false;  // the answer
};

// A prompt's keys and values: the generator writes them itself, and nothing after on_finish.
class PeerApi::KvStream final : public Stream, public api::KvOutlet {
 public:
  using Stream::Stream;

  bool write(std::string_view bytes) override { return send(bytes); }
  [[nodiscard]] std::size_t unsent() const override { return responder().unsent_bytes(); }

  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {}
  void on_finish(const api::FinishEvent& /*event*/) override { end(); }
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
  } else if (name == kPrefill && options_.prefill_offer && request.method == "GET") {
    responder->respond({.status = 200, .body = options_.prefill_offer()});
  } else if (name == kPrefill && options_.prefill_offer && request.method == "POST") {
    prefill(request, std::move(responder));
  } else if (name == kPrefill) {
    responder->respond(error_response(
        {.status = 404, .message = "this worker was not started with --disaggregation-mode prefill"}
    ));
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
  accept(std::make_unique<TokenStream>(*this, std::move(responder)), std::move(message->request));
}

// The generator finds another worker's order in a request like any other, which ends when the peer
// has everything or hangs up.
void PeerApi::prefill(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder) {
  auto order = api::decode_prefill_order(std::as_bytes(std::span(request.body)));
  if (!order.ok()) {
    responder->respond(error_response({.status = 400, .message = order.error().message}));
    return;
  }
  if (order->instance != options_.instance) {
    responder->respond(error_response(
        {.status = 409, .message = "the order is for an earlier start of this worker"}
    ));
    return;
  }
  auto stream = std::make_unique<KvStream>(*this, std::move(responder));
  api::GenerationRequest prompt{
      .prompt = std::move(order->prompt),
      .max_tokens = 0,
      .cache_salt = std::move(order->cache_salt),
      .priority = order->priority,
      .dp_rank = order->dp_rank,
      .kv_order = api::KvOrder{
          .outlet = stream.get(), .id = order->id, .first = order->first, .shared = order->shared}};
  accept(std::move(stream), std::move(prompt));
}

void PeerApi::accept(std::unique_ptr<Stream> owned, api::GenerationRequest request) {
  Stream& stream = *owned;
  const std::uint64_t number = stream.number();
  streams_.emplace(number, std::move(owned));
  stream.responder().on_disconnect([this, number](net::DisconnectReason /*reason*/) {
    hang_up(number);
  });
  if (stream.gone) {
    streams_.erase(number);
    return;
  }
  auto accepted = generator_.submit(std::move(request), stream);
  if (accepted.ok()) {
    stream.id = *accepted;
    if (!std::exchange(telling_alive_, true)) await_silence();
    return;
  }
  stream.responder().respond(error_response(from_error(accepted.error())));
  streams_.erase(number);
}

// While there is any stream.
void PeerApi::await_silence() {
  alive_timer_ = loop_.after(options_.alive_interval, [this] {
    for (const auto& [number, stream] : streams_) {
      stream->tell_alive();
    }
    telling_alive_ = !streams_.empty();
    if (telling_alive_) await_silence();
  });
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
