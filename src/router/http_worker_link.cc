#include "router/http_worker_link.h"

#include <utility>

#include <fmt/core.h>

#include "api/generation_stream.h"
#include "base/json.h"
#include "router/router_core.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kOverMax = 256;  // answers whose connections are waited for
constexpr std::size_t kRefusalBytesMax = std::size_t{64} << 10U;

// What an answer that is no stream says.
Error refusal_of(int status, const std::string& body) {
  const auto json = parse_json(body);
  const Json* error = json.ok() ? json->find("error") : nullptr;
  const Json* message = error == nullptr ? nullptr : error->find("message");
  const std::string* text = message == nullptr ? nullptr : message->as_string();
  Error refusal{
      .kind = ErrorKind::InvalidInput,
      .message = text == nullptr ? fmt::format("status {}", status) : *text,
  };
  if (status == 429) refusal.kind = ErrorKind::Exhausted;
  if (status == 503) refusal.kind = ErrorKind::Unavailable;
  return refusal;
}

}  // namespace

// One attempt's answer as it comes in.
class HttpWorkerLink::Stream final : public api::GenerationSink {
 public:
  Stream(RouterCore& core, AttemptId attempt) : core_(core), attempt_(attempt), reader_(*this) {}

  Result<void> feed(std::string_view bytes) { return reader_.feed(bytes); }
  [[nodiscard]] bool finished() const { return reader_.finished(); }

  void on_prompt_token(const api::TokenEvent& event) override {
    core_.on_prompt_token(attempt_, event);
  }
  void on_token(const api::TokenEvent& event) override { core_.on_token(attempt_, event); }
  void on_finish(const api::FinishEvent& event) override { core_.on_finish(attempt_, event); }

  net::HttpCall call;
  bool over = false;          // for the core; its connection is to be kept for others
  net::HttpCall finish_call;  // tells the worker that the output is complete
  int finish_status = 0;
  int status = 0;       // of the answer; 0: none yet
  std::string refusal;  // the answer's body when it is no stream

 private:
  RouterCore& core_;
  AttemptId attempt_;
  api::GenerationStreamReader reader_;
};

HttpWorkerLink::HttpWorkerLink(
    net::EventLoop& loop,
    RouterCore& core,
    const Options& options,
    std::function<void()> told
)
    : core_(core),
      options_(options),
      told_(std::move(told)),
      client_(
          loop,
          {.connect_timeout = options.connect_timeout,
           .head_timeout = options.silence_max,
           .idle_timeout = options.silence_max,
           .body_bytes_max = UINT64_MAX,
           .idle_connections_max = 256}
      ) {}

HttpWorkerLink::~HttpWorkerLink() = default;

net::HttpClientRequest HttpWorkerLink::request_to(const Worker& worker, std::string_view path)
    const {
  return {
      .method = "POST",
      .url = net::parse_url(fmt::format("{}/internal/{}", worker.url, path)).value(),
      .headers =
          {{"Authorization", "Bearer " + options_.secret},
           {std::string(api::kInstanceHeader), worker.report.instance}},
      .replayable = true,
  };
}

void HttpWorkerLink::send(
    AttemptId attempt,
    const Worker& worker,
    const api::SubmitMessage& message
) {
  auto owned = std::make_unique<Stream>(core_, attempt);
  Stream& stream = *owned;
  streams_.emplace(attempt, std::move(owned));
  const auto bytes = api::encode(message);
  net::HttpClientRequest request = request_to(worker, "generate");
  request.body.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  stream.call = client_.send(
      std::move(request),
      {.on_connected = [this, attempt] { core_.on_connected(attempt); },
       .on_head = [&stream](const net::HttpResponseHead& head) { stream.status = head.status; },
       .on_body = [this, attempt](std::string_view piece) { on_body(attempt, piece); },
       .on_end = [this, attempt](const Result<void>& ended) { on_end(attempt, ended); }}
  );
}

void HttpWorkerLink::hang_up(AttemptId attempt) {
  const auto at = streams_.find(attempt);
  if (at == streams_.end()) return;
  // Of an answer that is complete only HTTP's own end is to come.
  if (at->second->finished() && over_ < kOverMax) {
    at->second->over = true;
    ++over_;
    return;
  }
  at->second->call.cancel();
  if (at->second.get() == fed_) fed_over_ = std::move(at->second);
  streams_.erase(at);
}

void HttpWorkerLink::on_body(AttemptId attempt, std::string_view bytes) {
  Stream& stream = *streams_.at(attempt);
  if (stream.over) return;
  if (stream.status != 200) {
    stream.refusal.append(bytes.substr(0, kRefusalBytesMax - stream.refusal.size()));
    return;
  }
  fed_ = &stream;
  const auto fed = stream.feed(bytes);
  fed_ = nullptr;
  if (!fed.ok()) core_.on_broken(attempt, fed.error().message);
  fed_over_.reset();
  told_();
}

void HttpWorkerLink::on_end(AttemptId attempt, const Result<void>& ended) {
  const Stream& stream = *streams_.at(attempt);
  if (stream.over) {
    --over_;
    streams_.erase(attempt);
    return;
  }
  if (!ended.ok()) {
    core_.on_broken(attempt, ended.error().message);
  } else if (stream.status != 200) {
    core_.on_refused(attempt, refusal_of(stream.status, stream.refusal));
  } else {
    core_.on_broken(attempt, "the worker's answer ended too early");
  }
  told_();
}

// A worker that does not hear it is cut off by the request's own end.
void HttpWorkerLink::finish(AttemptId attempt, const Worker& worker, api::RequestId remote) {
  Stream& stream = *streams_.at(attempt);
  stream.finish_call = client_.send(
      request_to(worker, fmt::format("finish/{}", remote.value())),
      {.on_head = [&stream](const net::HttpResponseHead& head
                  ) { stream.finish_status = head.status; },
       .on_end =
           [this, &stream, attempt](const Result<void>& ended) {
             if (ended.ok() && stream.finish_status < 400) return;
             core_.on_broken(attempt, ended.ok() ? "it is there no more" : ended.error().message);
             told_();
           }}
  );
}

}  // namespace pleiad::router
