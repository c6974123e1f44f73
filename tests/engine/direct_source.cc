#include "tests/engine/direct_source.h"

#include <chrono>
#include <optional>
#include <utility>

#include "base/check.h"

namespace pleiad::engine {
namespace {

constexpr std::chrono::seconds kPatience{60};

}  // namespace

// The two ends of one transfer.
class DirectSource::Pipe final : public api::KvOutlet, public api::GenerationSink {
 public:
  Pipe(DirectSource& owner, api::KvInlet& inlet, Trouble trouble)
      : owner_(owner), inlet_(&inlet), trouble_(std::move(trouble)) {}

  bool write(std::string_view bytes) override {
    const int number = writes_++;
    owner_.wait_at(number, [this] { return gone_.load(); });
    const std::scoped_lock lock(mutex_);
    if (inlet_ == nullptr) return false;
    if (number == trouble_.cut_before) {
      end({.how = unavailable("the connection broke"), .broken = true});
      return false;
    }
    std::string changed(bytes);
    if (trouble_.change) trouble_.change(number, changed);
    auto taken = inlet_->on_bytes(changed);
    if (!taken.ok()) end({std::move(taken)});
    return inlet_ != nullptr;
  }
  [[nodiscard]] std::size_t unsent() const override { return 0; }

  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {}
  void on_finish(const api::FinishEvent& /*event*/) override {
    {
      const std::scoped_lock lock(mutex_);
      if (inlet_ != nullptr) end({});
    }
    owner_.note_finished();
  }

  // The receiving side's end.
  void hang_up() {
    owner_.note_gone(gone_);
    const std::scoped_lock lock(mutex_);
    inlet_ = nullptr;
  }
  void end(api::KvEnding ending) { std::exchange(inlet_, nullptr)->on_end(std::move(ending)); }

  std::optional<api::RequestId> id;

 private:
  DirectSource& owner_;
  std::mutex mutex_;  // guards inlet_; held while it is called
  api::KvInlet* inlet_;
  const Trouble trouble_;
  std::atomic<bool> gone_{false};
  int writes_ = 0;
};

class DirectSource::Call final : public api::KvCall {
 public:
  Call(DirectSource& owner, Pipe& pipe) : owner_(owner), pipe_(pipe) {}
  ~Call() override {
    pipe_.hang_up();
    if (pipe_.id) owner_.prefill_.cancel(*pipe_.id);
  }

 private:
  DirectSource& owner_;
  Pipe& pipe_;
};

DirectSource::DirectSource(api::Generator& prefill, std::string offer)
    : prefill_(prefill), offer_(std::move(offer)) {}

DirectSource::~DirectSource() {
  release();
  wait_finished();
}

std::unique_ptr<api::KvCall> DirectSource::ask(const std::string& /*url*/, api::KvInlet& inlet) {
  Pipe* pipe = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    pipes_.push_back(std::make_unique<Pipe>(*this, inlet, trouble_));
    pipe = pipes_.back().get();
  }
  auto call = std::make_unique<Call>(*this, *pipe);
  auto order = inlet.on_offer(offer_);
  if (!order.ok()) {
    pipe->end({std::move(order).error()});
    return call;
  }
  orders_.fetch_add(1);
  shared_orders_.fetch_add(order->shared ? 1 : 0);
  {
    const std::scoped_lock lock(mutex_);
    ++open_;
  }
  auto accepted = prefill_.submit(
      {.prompt = std::move(order->prompt),
       .max_tokens = 0,
       .cache_salt = order->cache_salt,
       .priority = order->priority,
       .dp_rank = order->dp_rank,
       .kv_order =
           api::KvOrder{
               .outlet = pipe, .id = order->id, .first = order->first, .shared = order->shared}},
      *pipe
  );
  if (accepted.ok()) {
    pipe->id = *accepted;
  } else {
    note_finished();
    pipe->end({std::move(accepted).error()});
  }
  return call;
}

void DirectSource::set_trouble(Trouble trouble) {
  const std::scoped_lock lock(mutex_);
  trouble_ = std::move(trouble);
}

void DirectSource::hold_at(int write) {
  {
    const std::scoped_lock lock(mutex_);
    hold_at_ = write;
  }
  changed_.notify_all();
}

void DirectSource::wait_at(int write, const std::function<bool()>& gone) {
  std::unique_lock lock(mutex_);
  if (hold_at_ != write) return;
  ++held_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return hold_at_ != write || gone(); });
  --held_;
}

void DirectSource::wait_held(int count) {
  std::unique_lock lock(mutex_);
  PLEIAD_CHECK(changed_.wait_for(lock, kPatience, [&] { return held_ >= count; }));
}

void DirectSource::note_gone(std::atomic<bool>& gone) {
  const std::scoped_lock lock(mutex_);
  gone.store(true);
  changed_.notify_all();
}

void DirectSource::note_finished() {
  const std::scoped_lock lock(mutex_);
  --open_;
  changed_.notify_all();  // under the lock: whoever waits may destroy this
}

void DirectSource::wait_finished() {
  std::unique_lock lock(mutex_);
  PLEIAD_CHECK(changed_.wait_for(lock, kPatience, [&] { return open_ == 0; }));
}

}  // namespace pleiad::engine
