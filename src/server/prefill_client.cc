#include "server/prefill_client.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "api/generation_wire.h"
#include "base/json.h"

namespace pleiad::server {
namespace {

constexpr std::string_view kRoute = "/internal/prefill";
constexpr std::size_t kTextMax = std::size_t{4} << 20U;  // of an offer or a refusal
constexpr std::size_t kOffersMax = 1024;

// What an answer that is no stream says.
Error refusal_of(int status, const std::string& body) {
  if (status == 401) return unavailable("it knows another cluster secret");
  const auto json = parse_json(body);
  const Json* error = json.ok() ? json->find("error") : nullptr;
  const Json* message = error == nullptr ? nullptr : error->find("message");
  const std::string* text = message == nullptr ? nullptr : message->as_string();
  return unavailable(
      "{}", text == nullptr ? fmt::format("it answers with status {}", status) : *text
  );
}

}  // namespace

// One question: the offer, unless it is known, then the order. The loop's thread, but for
// hang_up().
class PrefillClient::Ask : public std::enable_shared_from_this<Ask> {
 public:
  Ask(PrefillClient& owner, std::string url, api::KvInlet& inlet)
      : owner_(owner), url_(std::move(url)), inlet_(&inlet) {}

  void begin() {
    const auto known = owner_.offers_.find(url_);
    if (known == owner_.offers_.end()) {
      ask_for_offer();
    } else {
      send_order(known->second);
    }
  }

  // From then on the inlet is not called. Another thread's.
  void hang_up() {
    const std::scoped_lock lock(mutex_);
    inlet_ = nullptr;
  }
  void cut() { call_.cancel(); }

 private:
  void ask_for_offer();
  void take_offer(const Result<void>& ended);
  void send_order(const std::string& offer);
  void take_bytes(std::string_view bytes);
  void take_end(Result<void> ended);
  void end(api::KvEnding ending);
  [[nodiscard]] Result<net::Url> route() const {
    return net::parse_url(url_ + std::string(kRoute));
  }
  void add_text(std::string_view bytes) {
    text_.append(bytes.substr(0, kTextMax - std::min(kTextMax, text_.size())));
  }

  PrefillClient& owner_;
  const std::string url_;
  net::HttpCall call_;
  int status_ = 0;
  std::string text_;          // of an answer that is no stream
  bool ordered_ = false;      // the worker has the order
  bool asked_again_ = false;  // the worker is another start than its offer told
  std::mutex mutex_;          // guards inlet_, held while it is called
  api::KvInlet* inlet_;       // null: nobody listens
};

// What the caller holds.
class PrefillClient::Handle final : public api::KvCall {
 public:
  Handle(PrefillClient& owner, std::shared_ptr<Ask> ask) : owner_(owner), ask_(std::move(ask)) {}
  ~Handle() override {
    ask_->hang_up();
    owner_.loop_.post([ask = ask_] { ask->cut(); });
  }

 private:
  PrefillClient& owner_;
  std::shared_ptr<Ask> ask_;  // owners: this handle, and what the loop has yet to do for it
};

void PrefillClient::Ask::ask_for_offer() {
  auto url = route();
  if (!url.ok()) return end({std::move(url).error()});
  status_ = 0;
  text_.clear();
  call_ = owner_.client_.send(
      {.url = *url, .headers = {{"Authorization", owner_.authorization_}}},
      {.on_head = [this](const net::HttpResponseHead& head) { status_ = head.status; },
       .on_body = [this](std::string_view bytes) { add_text(bytes); },
       .on_end = [self =
                      shared_from_this()](const Result<void>& ended) { self->take_offer(ended); }}
  );
}

void PrefillClient::Ask::take_offer(const Result<void>& ended) {
  const auto alive = shared_from_this();  // the call that owns this may go meanwhile
  if (!ended.ok()) return end({ended});
  if (status_ != 200) return end({refusal_of(status_, text_)});
  if (owner_.offers_.size() >= kOffersMax) owner_.offers_.clear();
  owner_.offers_[url_] = text_;
  send_order(text_);
}

void PrefillClient::Ask::send_order(const std::string& offer) {
  Result<api::PrefillOrder> order = error(ErrorKind::Cancelled, "nobody listens");
  {
    const std::scoped_lock lock(mutex_);
    if (inlet_ == nullptr) return;
    order = inlet_->on_offer(offer);
  }
  if (!order.ok()) return end({std::move(order).error()});
  const auto body = api::encode(*order);
  status_ = 0;
  text_.clear();
  call_ = owner_.client_.send(
      {.method = "POST",
       .url = route().value(),
       .headers = {{"Authorization", owner_.authorization_}},
       .body = std::string(reinterpret_cast<const char*>(body.data()), body.size()),
       .replayable = true},
      {.on_connected = [this] { ordered_ = true; },
       .on_head = [this](const net::HttpResponseHead& head) { status_ = head.status; },
       .on_body = [this](std::string_view bytes) { take_bytes(bytes); },
       .on_end = [self =
                      shared_from_this()](Result<void> ended) { self->take_end(std::move(ended)); }}
  );
}

void PrefillClient::Ask::take_bytes(std::string_view bytes) {
  if (status_ != 200) return add_text(bytes);
  Result<void> taken;
  {
    const std::scoped_lock lock(mutex_);
    if (inlet_ == nullptr) return;
    taken = inlet_->on_bytes(bytes);
  }
  if (taken.ok()) return;
  const bool broken = taken.error().kind == ErrorKind::Corrupt;
  end({.how = std::move(taken), .broken = broken});
  call_.cancel();
}

void PrefillClient::Ask::take_end(Result<void> ended) {
  const auto alive = shared_from_this();
  constexpr int kAnotherStart = 409;
  if (status_ == kAnotherStart && !asked_again_) {
    asked_again_ = true;
    owner_.offers_.erase(url_);
    return ask_for_offer();
  }
  const bool broken = !ended.ok() && ordered_;
  if (ended.ok() && status_ != 200) ended = refusal_of(status_, text_);
  // What the worker says now may be no more than a stop: it is asked anew next time.
  if (!ended.ok()) owner_.offers_.erase(url_);
  end({.how = std::move(ended), .broken = broken});
}

void PrefillClient::Ask::end(api::KvEnding ending) {
  const std::scoped_lock lock(mutex_);
  api::KvInlet* inlet = std::exchange(inlet_, nullptr);
  if (inlet != nullptr) inlet->on_end(std::move(ending));
}

PrefillClient::PrefillClient(const Options& options)
    : authorization_("Bearer " + options.secret),
      client_(
          loop_,
          {.connect_timeout = options.connect_timeout,
           .head_timeout = options.silence_max,
           .idle_timeout = options.silence_max,
           .body_bytes_max = UINT64_MAX}
      ),
      thread_([this] { loop_.run(); }) {}

PrefillClient::~PrefillClient() {
  // Behind what the last handles have posted.
  loop_.post([this] { loop_.stop(); });
  thread_.join();
}

std::unique_ptr<api::KvCall> PrefillClient::ask(const std::string& url, api::KvInlet& inlet) {
  auto ask = std::make_shared<Ask>(*this, url, inlet);  // owners: see Handle
  loop_.post([ask] { ask->begin(); });
  return std::make_unique<Handle>(*this, std::move(ask));
}

}  // namespace pleiad::server
