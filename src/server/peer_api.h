#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "api/generation.h"
#include "api/worker_report.h"
#include "base/clock.h"
#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/responder.h"
#include "server/api_keys.h"

namespace pleiad::server {

// What other processes of a service ask of a worker, in tokens, under the cluster's secret:
//   POST /internal/generate     a SubmitMessage (api/generation_wire.h; its id does not matter);
//                               answered with a stream of events (api/generation_stream.h)
//   POST /internal/finish/ID    ends the request of that id as complete
//   GET  /internal/report       WorkerReport
//   GET  /internal/prefill      of a prefill worker: what it offers to decode workers
//   POST /internal/prefill      a PrefillOrder; answered with the prompt's keys and values
// A stream of events that has none to tell says every second that it is alive, so that a connection
// that fell silent is known as one. The request lives as long as its connection: closing that
// cancels it. Loop thread, but for the events of requests.
class PeerApi {
 public:
  static constexpr std::string_view kPrefix = "/internal/";

  struct Options {
    std::string secret;    // not empty: without one there is no such API
    std::string instance;  // of this start: requests meant for another are refused with 503
    std::function<api::WorkerReport()> report;
    // Of a prefill worker; empty: it is none.
    std::function<std::string()> prefill_offer;
    Nanoseconds alive_interval = std::chrono::seconds{1};
  };

  // `generator` and `loop` must outlive the API.
  PeerApi(api::Generator& generator, net::EventLoop& loop, Options options);
  PeerApi(const PeerApi&) = delete;
  PeerApi& operator=(const PeerApi&) = delete;
  // REQUIRES: the loop does not run, and the generator has finished every request.
  ~PeerApi();

  // A request whose path begins with kPrefix.
  void handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder);
  // Requests that have not finished.
  [[nodiscard]] std::size_t open_requests() const { return streams_.size(); }

 private:
  class Stream;
  class TokenStream;
  class KvStream;

  [[nodiscard]] bool meant_for_another(const net::HttpRequest& request) const;
  void prefill(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder);
  void accept(std::unique_ptr<Stream> owned, api::GenerationRequest request);
  void generate(const net::HttpRequest& request, std::unique_ptr<net::Responder> responder);
  void finish(std::string_view id, net::Responder& responder);
  void hang_up(std::uint64_t number);
  void await_silence();
  void forget(std::uint64_t number);

  api::Generator& generator_;
  net::EventLoop& loop_;
  Options options_;
  ApiKeys keys_;
  std::uint64_t next_stream_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<Stream>> streams_;
  net::Timer alive_timer_;
  bool telling_alive_ = false;  // the timer runs
};

}  // namespace pleiad::server
