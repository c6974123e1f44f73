#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/random.h"
#include "router/router_core.h"
#include "router/worker_link.h"
#include "sim/timeline.h"
#include "sim/worker.h"

namespace pleiad::sim {

struct NetworkOptions {
  Nanoseconds delay_min = std::chrono::microseconds(50);  // of a piece of a stream, one way
  Nanoseconds delay_max = std::chrono::microseconds(200);
  // Chance that a connection kept from before turns out closed after the worker took the request,
  // which is then sent again.
  double resend_chance = 0.0;
  Nanoseconds connect_timeout = std::chrono::seconds(2);
  Nanoseconds silence_max = std::chrono::minutes(10);
  Nanoseconds report_interval = std::chrono::milliseconds(200);
  Nanoseconds report_timeout = std::chrono::seconds(1);
  Nanoseconds alive_interval = std::chrono::seconds(1);  // of streams with nothing to tell
  Nanoseconds prefill_silence_max = std::chrono::seconds(5);
  // Chances that a record of keys comes twice, never, or behind one of another transfer. TCP keeps
  // them from it; what a worker believes of its peer must not rest on that.
  double record_twice_chance = 0.0;
  double record_lost_chance = 0.0;
  double record_strays_chance = 0.0;
};

// A machine of the simulation: runs a worker process, or none.
struct SimHost {
  std::string url;
  SimWorker::Options process;         // of the next start
  std::unique_ptr<SimWorker> worker;  // null: no process
  int starts = 0;
  bool cut_off = false;         // nothing comes from it or goes there, and nobody is told
  Nanoseconds clogged_to{0};    // what goes there arrives later than this
  Nanoseconds clogged_from{0};  // what comes from there, likewise
};

// The router's connections to its workers, and the questions for reports, as sockets behave: pieces
// of one connection stay in order and come once, those of several overtake each other; a process
// that dies resets its connections, a machine that dies says nothing; closing reaches the other
// side later, or never. The twin of HttpWorkerLink and WorkerWatch.
class SimNetwork final : public router::WorkerLink {
 public:
  // All must outlive the network; `core` may be constructed later.
  SimNetwork(
      Timeline& timeline,
      router::RouterCore& core,
      std::uint64_t seed,
      const NetworkOptions& options
  );
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;
  ~SimNetwork() override = default;

  void send(
      router::AttemptId attempt,
      const router::Worker& worker,
      const api::SubmitMessage& message
  ) override;
  void hang_up(router::AttemptId attempt) override;
  void finish(router::AttemptId attempt, const router::Worker& worker, api::RequestId remote)
      override;

  // A machine without a process yet; its number.
  std::size_t add_host(std::string url, const SimWorker::Options& process);
  // Asks the worker for reports from now on, until it is forgotten.
  void watch(router::WorkerIndex worker, std::size_t host);
  void forget(router::WorkerIndex worker);

  [[nodiscard]] std::size_t host_of(std::string_view url) const;
  // Does `task` in the host's process, where there is one, as soon as it can.
  void in_process(std::size_t host, Timeline::Task task);

  // What happens to processes and machines.
  void start(std::size_t index);
  void kill(std::size_t index);
  // Its connections are neither closed nor heard of again.
  void lose_power(std::size_t index);
  void go_on(std::size_t index);
  // One connection, drawn: reset for both, or silent for both. False: there is none.
  bool break_one(std::size_t host);
  bool silence_one(std::size_t host);
  // Likewise a transfer of keys from or to there.
  bool break_transfer(std::size_t host);
  bool silence_transfer(std::size_t host);
  // From now on records of keys come once and in order.
  void keep_records() { keeps_records_ = true; }

  [[nodiscard]] SimHost& host(std::size_t index) { return *hosts_[index]->host; }
  [[nodiscard]] const SimHost& host(std::size_t index) const { return *hosts_[index]->host; }
  [[nodiscard]] std::size_t hosts() const { return hosts_.size(); }
  // Whether neither the router nor a worker has anything open.
  [[nodiscard]] bool idle() const;
  // Called when a process dies by the prompt of a request.
  std::function<void(api::RequestId request)> on_poisoned;
  // Called when an attempt ends whose prompt killed a worker, and the one that knew of it ended or
  // died without telling, or the killed one was removed meanwhile.
  std::function<void(api::RequestId request)> on_untold;
  // Called for every send, with attempts under way at the same request, this one too.
  std::function<
      void(const router::Worker& worker, const api::SubmitMessage& message, std::size_t under_way)>
      on_send;
  // Called when a process has started.
  std::function<void(std::size_t host)> on_start;

 private:
  // Between one attempt and one process.
  struct Connection {
    router::AttemptId attempt;
    api::RequestId request;
    std::size_t host = 0;
    std::string instance;  // of the worker that is meant
    int start = 0;         // of the host's process
    StreamId stream;
    Nanoseconds sent_last{0};           // nothing sent later arrives before
    Nanoseconds received_last{0};       // likewise back
    Nanoseconds heard{0};               // when the router last did
    bool silent = false;                // nothing passes any more, and nobody is told
    bool replaced = false;              // by another, of the same attempt
    bool broken = false;                // by the network: nothing more is sent back
    bool closed = false;                // by its process' end, or broken: nothing more arrives
    std::optional<std::size_t> killed;  // another host's process, by its prompt computed there
    bool told = false;                  // that its keys broke off
    bool finished = false;              // and the router has heard so

    // Whether the router hears when the process dies. Not of what it sent a second time: the answer
    // to that is the attempt's, and says nothing of the first.
    [[nodiscard]] bool end_is_heard() const { return !silent && !replaced; }
  };
  using ConnectionPtr =
      std::shared_ptr<Connection>;  // owners: connections_, and pieces on their way

  // A prompt's keys on their way: the connection over which a decode worker ordered them.
  struct Transfer {
    api::RequestId request;  // of a client
    std::size_t to = 0;      // host that ordered
    int to_start = 0;
    StreamId to_stream;
    std::size_t from = 0;  // host that computes
    int from_start = 0;    // 0: it does not know of it
    StreamId from_stream;
    Nanoseconds sent_last{0};      // nothing of the order sent later arrives before
    Nanoseconds received_last{0};  // likewise back
    Nanoseconds heard{0};
    bool committed = false;  // by its sender, who says nothing more then
    bool silent = false;
    bool over = false;  // for whoever ordered
  };
  using TransferPtr = std::shared_ptr<Transfer>;  // owners: transfers_, and pieces on their way

  // Hears one process.
  class Process final : public WorkerOutput {
   public:
    Process(SimNetwork& network, std::size_t index) : network_(network), index_(index) {}
    void on_prompt_token(StreamId stream, const api::TokenEvent& event) override;
    void on_token(StreamId stream, const api::TokenEvent& event) override;
    void on_finish(StreamId stream, const api::FinishEvent& event) override;
    void on_poisoned(StreamId stream) override;
    void on_keys_wanted(StreamId stream, const KeyOrder& order) override;
    void on_keys_unwanted(StreamId stream) override;
    void on_keys(StreamId stream, const KeyRecord& record) override;

    std::unique_ptr<SimHost> host = std::make_unique<SimHost>();
    std::vector<Timeline::Task> inbox;  // arrived while the process was frozen

   private:
    SimNetwork& network_;
    std::size_t index_;
  };

  struct Watched {
    std::size_t host = 0;
    std::uint64_t question = 0;
  };

  Nanoseconds delay();
  [[nodiscard]] bool reachable(std::size_t host) const;
  void connect(const ConnectionPtr& connection, api::GenerationRequest request);
  void arrive(const ConnectionPtr& connection, const api::GenerationRequest& request);
  void resend(const ConnectionPtr& connection, api::GenerationRequest request);
  void to_worker(const ConnectionPtr& connection, Timeline::Task task);
  void to_router(const ConnectionPtr& connection, Timeline::Task task);
  void to_router(StreamId stream, const std::function<void(router::AttemptId)>& task);
  void reset(const ConnectionPtr& connection, std::string_view why);
  void watch_silence(const ConnectionPtr& connection);
  [[nodiscard]] bool router_has(const Connection& connection) const;
  ConnectionPtr draw(std::size_t host);
  void stay_alive(const ConnectionPtr& connection);
  // The client's, of a stream or a transfer.
  [[nodiscard]] api::RequestId request_of(StreamId stream) const;
  void note_killed(StreamId stream);
  // Whether the receiver of the stream's keys is there and waits for them.
  [[nodiscard]] bool wants_keys(StreamId stream) const;
  // Of transfers (network_transfers.cc).
  void order_keys(const TransferPtr& transfer, const KeyOrder& order);
  void arrive(const TransferPtr& transfer, const KeyOrder& order);
  void to_sender(const TransferPtr& transfer, Timeline::Task task);
  void to_receiver(const TransferPtr& transfer, Timeline::Task task);
  void send_record(const TransferPtr& transfer, const KeyRecord& record);
  void lose(const TransferPtr& transfer, bool broken);
  void stay_alive(const TransferPtr& transfer);
  void watch_silence(const TransferPtr& transfer);
  void end_transfers(std::size_t host);
  void end_answer(StreamId stream);
  TransferPtr draw_transfer(std::size_t host);
  void ask(router::WorkerIndex worker);
  void answer(router::WorkerIndex worker, std::uint64_t question);
  void report(
      router::WorkerIndex worker,
      std::uint64_t question,
      const Result<api::WorkerReport>& report
  );

  Timeline& timeline_;
  router::RouterCore& core_;
  Random random_;
  const NetworkOptions options_;
  std::vector<std::unique_ptr<Process>> hosts_;
  std::unordered_map<router::AttemptId, ConnectionPtr> connections_;  // that the router has open
  std::unordered_map<StreamId, ConnectionPtr> streams_;               // that processes have open
  std::unordered_map<api::RequestId, std::size_t> under_way_;         // attempts by request
  std::unordered_map<router::WorkerIndex, Watched> watched_;
  std::vector<TransferPtr> transfers_;                    // that a process has open
  std::unordered_map<StreamId, api::RequestId> ordered_;  // whose keys a stream was to tell
  bool keeps_records_ = false;
  KeyRecord stray_;  // of some transfer
  std::uint64_t next_stream_ = 1;
};

}  // namespace pleiad::sim
