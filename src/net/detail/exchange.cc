#include "net/detail/exchange.h"

#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "net/detail/response_head.h"

namespace pleiad::net {

namespace {

using Callback = UniqueFunction<void(DisconnectReason)>;

}  // namespace

Exchange::Exchange(
    EventLoop& loop,
    std::weak_ptr<HttpConnection> connection,
    const ExchangeOptions& options
)
    : loop_(&loop), connection_(std::move(connection)), options_(options) {}

// REQUIRES: mutex_ held, so that no wake is posted to a loop that is gone.
void Exchange::wake() {
  if (wake_pending_ || loop_ == nullptr) return;
  wake_pending_ = true;
  loop_->post([connection = connection_] { collect_exchange(connection); });
}

// With a `body` the answer is complete, without it a stream begins. REQUIRES: mutex_ held.
void Exchange::append_head(int status, const HttpHeaders& headers, const std::string* body) {
  PLEIAD_CHECK(status >= 200 && status <= 999, "an answer's status is 200 to 999");
  const bool bodyless = status == 204 || status == 304;
  ResponseFraming framing{
      .minor_version = options_.minor_version,
      .unix_seconds = SystemClock().unix_seconds(),
  };
  if (body != nullptr) {
    framing.content_length = body->size();
  } else if (!bodyless) {
    framing.chunked = options_.minor_version == 1;
    options_.keep_alive = options_.keep_alive && framing.chunked;
  }
  framing.keep_alive = options_.keep_alive;
  chunked_ = framing.chunked && !options_.head_request;
  append_response_head(status, headers, framing, unsent_);
  const bool send_body = !options_.head_request && !bodyless;
  if (body != nullptr && send_body) unsent_.append(*body);
  if (!send_body) options_.head_request = true;
}

// The callback is handed out because what it captured must not be destroyed under the mutex.
void Exchange::end(Phase phase, Callback& dropped_callback) {
  phase_ = phase;
  dropped_callback = std::exchange(on_disconnect_, nullptr);
  wake();
}

void Exchange::respond(const HttpResponse& response) {
  Callback dropped_callback;
  const std::lock_guard lock(mutex_);
  PLEIAD_CHECK(phase_ == Phase::Waiting || phase_ == Phase::Dropped, "a request is answered once");
  if (loop_ == nullptr) {
    phase_ = Phase::Finished;
    return;
  }
  append_head(response.status, response.headers, &response.body);
  end(Phase::Finished, dropped_callback);
}

void Exchange::start_stream(int status, const HttpHeaders& headers) {
  const std::lock_guard lock(mutex_);
  PLEIAD_CHECK(phase_ == Phase::Waiting, "a request is answered once");
  phase_ = Phase::Streaming;
  if (loop_ == nullptr) return;
  append_head(status, headers, nullptr);
  wake();
}

bool Exchange::write(std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  PLEIAD_CHECK(phase_ == Phase::Streaming, "write() belongs between start_stream() and finish()");
  if (loop_ == nullptr || overflowed_) return false;
  if (bytes.empty() || options_.head_request) return true;
  if (unsent_.size() + in_flight_bytes_ > options_.unsent_bytes_max) {
    overflowed_ = true;
    wake();
    return false;
  }
  if (chunked_) {
    append_chunk(bytes, unsent_);
  } else {
    unsent_.append(bytes);
  }
  wake();
  return true;
}

void Exchange::finish() {
  Callback dropped_callback;
  const std::lock_guard lock(mutex_);
  PLEIAD_CHECK(phase_ == Phase::Streaming, "finish() ends a stream");
  if (chunked_) unsent_.append("0\r\n\r\n");
  end(Phase::Finished, dropped_callback);
}

void Exchange::abort() {
  Callback dropped_callback;
  const std::lock_guard lock(mutex_);
  PLEIAD_CHECK(phase_ == Phase::Waiting || phase_ == Phase::Streaming, "the answer has ended");
  end(Phase::Aborted, dropped_callback);
}

void Exchange::drop() {
  Callback dropped_callback;
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::Waiting) end(Phase::Dropped, dropped_callback);
  if (phase_ == Phase::Streaming) end(Phase::Aborted, dropped_callback);
}

void Exchange::on_disconnect(Callback callback) {
  {
    const std::lock_guard lock(mutex_);
    const bool ended = phase_ != Phase::Waiting && phase_ != Phase::Streaming;
    if (ended) return;
    if (loop_ != nullptr) {
      std::swap(on_disconnect_, callback);
      wake();
      return;
    }
  }
  if (callback) callback(gone_because_);
}

bool Exchange::disconnected() const {
  const std::lock_guard lock(mutex_);
  return loop_ == nullptr || overflowed_;
}

std::size_t Exchange::unsent_bytes() const {
  const std::lock_guard lock(mutex_);
  return unsent_.size() + in_flight_bytes_;
}

Exchange::Output Exchange::collect() {
  const std::lock_guard lock(mutex_);
  wake_pending_ = false;
  in_flight_bytes_ += unsent_.size();
  return {
      .bytes = std::exchange(unsent_, {}),
      .phase = phase_,
      .keep_alive = options_.keep_alive,
      .chunked = chunked_,
      .overflowed = overflowed_,
      .watched = static_cast<bool>(on_disconnect_),
  };
}

void Exchange::sent(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  in_flight_bytes_ -= bytes;
}

void Exchange::forbid_keep_alive() {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::Waiting) options_.keep_alive = false;
}

void Exchange::detach(DisconnectReason reason) {
  Callback callback;
  {
    const std::lock_guard lock(mutex_);
    loop_ = nullptr;
    gone_because_ = reason;
    connection_.reset();
    unsent_.clear();
    in_flight_bytes_ = 0;
    callback = std::exchange(on_disconnect_, nullptr);
  }
  if (callback) callback(reason);
}

}  // namespace pleiad::net
