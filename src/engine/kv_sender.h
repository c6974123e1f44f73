#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/generation.h"
#include "api/hand_over.h"
#include "base/clock.h"
#include "engine/hand_over_metrics.h"
#include "engine/rank_caches.h"
#include "kv/line_records.h"

namespace pleiad::engine {

// Tokens [first, end) of a request's prompt whose lines of some layer are final.
struct KvRun {
  api::RequestId request;
  std::int64_t first = 0;
  std::int64_t end = 0;
};

// Sends keys and values of one dp rank's prompts to the workers that ordered them: a thread of its
// own takes what the engine says is final, so that the model goes on meanwhile.
//
// A transfer is the engine's from open() to close(). When all lines are sent the peer is told so;
// one that reads them in place hangs up once it has, any other has them then.
class KvSender {
 public:
  // How a transfer ended on its own.
  enum class Over {
    Sent,          // the peer has everything
    PeerGone,      // nobody reads any more
    LeaseExpired,  // the peer took nothing for longer than the lease
  };

  struct Options {
    RankCaches caches;
    Nanoseconds lease = std::chrono::seconds{30};
    Nanoseconds alive_interval = std::chrono::seconds{1};
    // On the sender's thread, at most once a transfer; close() must follow, from another thread.
    std::function<void(api::RequestId, Over)> on_over;
  };

  // `clock` and `metrics` must outlive the sender.
  KvSender(Options options, const Clock& clock, HandOverMetrics& metrics);
  KvSender(const KvSender&) = delete;
  KvSender& operator=(const KvSender&) = delete;
  // REQUIRES: every transfer is closed.
  ~KvSender();

  // Tokens [order.first, end) are wanted. From here on the peer hears that somebody is at work. Any
  // thread.
  void open(api::RequestId request, const api::KvOrder& order, std::int64_t end);
  // Where they will lie: the page table of the prompt. They stay there until close().
  void place(api::RequestId request, std::vector<std::uint32_t> pages);
  // Lines that will not change any more; those before order.first do not matter.
  void ship(std::int64_t layer, std::span<const KvRun> runs);
  void ship_all_layers(const KvRun& run);
  // Returns when nothing of the transfer is in use any more. `why` is told to a peer that does not
  // have everything; empty: it wants nothing more. Whether everything was sent.
  bool close(api::RequestId request, std::string_view why);

 private:
  // Lines of layers [layer, layer_end), of which those of `layer` up to token `at` are sent.
  struct Item {
    std::int64_t layer = 0;
    std::int64_t layer_end = 0;
    std::int64_t first = 0;
    std::int64_t end = 0;
    std::int64_t at = 0;
  };

  struct Transfer {
    api::KvOrder order;
    std::int64_t end = 0;
    std::vector<std::uint32_t> pages;
    std::deque<Item> items;
    std::int64_t lines_left = 0;  // tokens * layers
    kv::RecordCount sent;
    Nanoseconds opened{};
    Nanoseconds heard{};  // when the peer was told anything last
    Nanoseconds moved{};  // when it last took something
    bool busy = false;    // the thread is at it
    bool complete = false;
    bool over = false;
  };

  using Transfers = std::map<api::RequestId, Transfer>;

  void run();
  Transfers::iterator find_work();
  void send_some(std::unique_lock<std::mutex>& lock, Transfers::iterator at);
  void append_records(const Transfer& transfer, const Item& item, std::int64_t end);
  void complete(api::RequestId request, Transfer& transfer);
  void look_after_all();
  void look_after(api::RequestId request, Transfer& transfer);
  void add_item(api::RequestId request, Item item);
  void end(api::RequestId request, Transfer& transfer, Over how);

  const Options options_;
  const Clock& clock_;
  HandOverMetrics& metrics_;
  std::vector<std::size_t> senders_;  // parts that send; others repeat their heads

  std::mutex mutex_;  // guards all below but records_ and counted_
  std::condition_variable wake_;
  std::condition_variable idle_;  // a transfer is not busy any more
  Transfers transfers_;           // by age
  bool stopping_ = false;
  bool blocked_ = false;     // a peer reads too slowly: look again soon
  std::string records_;      // the thread's: what is about to be written
  kv::RecordCount counted_;  // the thread's: what is in it
  std::thread thread_;
};

}  // namespace pleiad::engine
