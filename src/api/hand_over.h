#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "base/transfer_id.h"

// The hand-over of a prompt's keys and values from the worker that computes them to the one that
// goes on with them. Who receives leads: it asks, and the connection over which it asks is the
// transfer's life on both sides. What the bytes mean is the engines' business.
namespace pleiad::api {

// Where the keys and values of a request's prompt come from.
struct PrefillFrom {
  std::string url;                      // of a prefill worker
  std::optional<std::int32_t> dp_rank;  // of it; none: its least busy one
  std::uint32_t attempt = 0;            // of the request, counted by whoever sends it
};

// Takes the bytes of one transfer, on the side that computes. Any thread, one at a time.
class KvOutlet {
 public:
  virtual ~KvOutlet() = default;
  // Queues bytes for the peer; false when nobody reads any more.
  virtual bool write(std::string_view bytes) = 0;
  // Bytes queued and not yet on their way.
  [[nodiscard]] virtual std::size_t unsent() const = 0;
};

// What is wanted of a prompt that is computed for another worker.
struct KvOrder {
  KvOutlet* outlet = nullptr;
  TransferId id;
  std::int64_t first = 0;  // first token whose keys and values are wanted
  bool shared = false;     // the peer reads them where they lie
};

// The same, as the other worker asks for it.
struct PrefillOrder {
  TransferId id;
  std::string instance;  // start of the worker that is asked, as its offer told
  std::vector<TokenId> prompt;
  std::int64_t first = 0;
  bool shared = false;
  std::string cache_salt;
  std::int32_t priority = 0;
  std::optional<std::int32_t> dp_rank;
};

// How a transfer ended.
struct KvEnding {
  Result<void> how;  // or why it did not end well
  // The worker had the order, and its answer broke off, fell silent or was none: it may have died
  // of the prompt.
  bool broken = false;
};

// What comes of asking a prefill worker. Called on a thread of the caller's source, one call at a
// time, never again after on_end().
class KvInlet {
 public:
  virtual ~KvInlet() = default;
  // What the worker says of itself: answers the order for it, or why it is not asked.
  virtual Result<PrefillOrder> on_offer(std::string_view offer) = 0;
  // Bytes of the transfer. After a failure nothing more comes but on_end() with that failure.
  virtual Result<void> on_bytes(std::string_view bytes) = 0;
  // Nothing more comes.
  virtual void on_end(KvEnding ending) = 0;
};

// A question under way. Destroying it ends it at once, for the peer too; blocks while a call of its
// inlet runs, and none comes later. Not from inside such a call.
class KvCall {
 public:
  virtual ~KvCall() = default;
};

// Asks prefill workers. Any thread.
class KvSource {
 public:
  virtual ~KvSource() = default;
  // Returns at once. `inlet` lives as long as the call.
  virtual std::unique_ptr<KvCall> ask(const std::string& url, KvInlet& inlet) = 0;
};

}  // namespace pleiad::api
