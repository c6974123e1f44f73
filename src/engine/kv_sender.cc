#include "engine/kv_sender.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "kv/record.h"

namespace pleiad::engine {
namespace {

// A peer that has so much to read gets nothing more for a while.
constexpr std::size_t kUnsentMax = std::size_t{1} << 20U;
constexpr std::chrono::microseconds kBlockedPause{300};
constexpr std::chrono::milliseconds kLookInterval{100};
// Tokens of one layer between two looks at whether the transfer is still wanted.
constexpr std::int64_t kTokensAtOnce = 512;

}  // namespace

KvSender::KvSender(Options options, const Clock& clock, HandOverMetrics& metrics)
    : options_(std::move(options)), clock_(clock), metrics_(metrics) {
  std::int64_t heads = 0;
  for (std::size_t i = 0; i < options_.caches.parts.size(); ++i) {
    const kv::HeadRange& part = options_.caches.parts[i].plan.heads;
    if (part.first < heads) continue;
    heads = part.first + part.count;
    senders_.push_back(i);
  }
  thread_ = std::thread([this] { run(); });
}

KvSender::~KvSender() {
  {
    const std::scoped_lock lock(mutex_);
    PLEIAD_CHECK(transfers_.empty(), "a sender is destroyed before its transfers");
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void KvSender::open(api::RequestId request, const api::KvOrder& order, std::int64_t end) {
  PLEIAD_CHECK(order.first >= 0 && order.first < end);
  const Nanoseconds now = clock_.now();
  Transfer transfer{
      .order = order,
      .end = end,
      .lines_left = (end - order.first) * options_.caches.shape.layers,
      .opened = now,
      .heard = now,
      .moved = now};
  const std::scoped_lock lock(mutex_);
  const bool added = transfers_.emplace(request, std::move(transfer)).second;
  PLEIAD_CHECK(added, "a transfer is opened once");
  metrics_.holds.add(1.0);
}

void KvSender::place(api::RequestId request, std::vector<std::uint32_t> pages) {
  const std::scoped_lock lock(mutex_);
  transfers_.at(request).pages = std::move(pages);
}

void KvSender::ship(std::int64_t layer, std::span<const KvRun> runs) {
  {
    const std::scoped_lock lock(mutex_);
    for (const KvRun& run : runs) {
      add_item(
          run.request, {.layer = layer, .layer_end = layer + 1, .first = run.first, .end = run.end}
      );
    }
  }
  wake_.notify_one();
}

void KvSender::ship_all_layers(const KvRun& run) {
  {
    const std::scoped_lock lock(mutex_);
    add_item(
        run.request, {.layer_end = options_.caches.shape.layers, .first = run.first, .end = run.end}
    );
  }
  wake_.notify_one();
}

void KvSender::add_item(api::RequestId request, Item item) {
  Transfer& transfer = transfers_.at(request);
  item.first = std::max(item.first, transfer.order.first);
  item.end = std::min(item.end, transfer.end);
  item.at = item.first;
  if (item.first < item.end) transfer.items.push_back(item);
}

bool KvSender::close(api::RequestId request, std::string_view why) {
  std::unique_lock lock(mutex_);
  const auto at = transfers_.find(request);
  PLEIAD_CHECK(at != transfers_.end(), "a transfer is closed once");
  Transfer& transfer = at->second;
  transfer.items.clear();
  transfer.over = true;
  idle_.wait(lock, [&transfer] { return !transfer.busy; });
  const bool complete = transfer.complete;
  if (!complete && !why.empty()) {
    std::string words;
    kv::RecordHead head{.kind = kv::RecordKind::Failed};
    head.set_id(transfer.order.id);
    const std::string_view told = why.substr(0, kv::kPayloadBytesMax);
    kv::append_record(head, std::as_bytes(std::span(told)), words);
    transfer.order.outlet->write(words);
    metrics_.failed.add();
  }
  transfers_.erase(at);
  metrics_.holds.add(-1.0);
  return complete;
}

void KvSender::run() {
  std::unique_lock lock(mutex_);
  Nanoseconds looked = clock_.now();
  while (!stopping_) {
    if (clock_.now() - looked >= kLookInterval) {
      looked = clock_.now();
      look_after_all();
    }
    const auto at = find_work();
    if (at != transfers_.end()) {
      send_some(lock, at);
    } else if (blocked_) {
      wake_.wait_for(lock, kBlockedPause);
    } else {
      wake_.wait_for(lock, kLookInterval);
    }
  }
}

// The oldest transfer that can go on.
KvSender::Transfers::iterator KvSender::find_work() {
  blocked_ = false;
  for (auto at = transfers_.begin(); at != transfers_.end(); ++at) {
    Transfer& transfer = at->second;
    if (transfer.items.empty() || transfer.over) continue;
    if (transfer.order.outlet->unsent() <= kUnsentMax) return at;
    blocked_ = true;
  }
  return transfers_.end();
}

// Some tokens of one layer. The lock is not held while lines are read and written.
void KvSender::send_some(std::unique_lock<std::mutex>& lock, Transfers::iterator at) {
  Transfer& transfer = at->second;
  const api::RequestId request = at->first;
  const Item item = transfer.items.front();
  const std::int64_t end = std::min(item.end, item.at + kTokensAtOnce);
  transfer.busy = true;
  lock.unlock();
  append_records(transfer, item, end);
  const bool taken = transfer.order.outlet->write(records_);
  lock.lock();
  transfer.busy = false;
  idle_.notify_all();
  transfer.heard = clock_.now();
  transfer.moved = transfer.heard;
  metrics_.bytes.add(static_cast<double>(counted_.bytes));
  transfer.sent.records += counted_.records;
  transfer.sent.bytes += counted_.bytes;
  transfer.lines_left -= end - item.at;
  if (transfer.over) return;
  if (!taken) return this->end(request, transfer, Over::PeerGone);
  Item& front = transfer.items.front();
  front.at = end;
  if (front.at == front.end) {
    front.at = front.first;
    ++front.layer;
  }
  if (front.layer == front.layer_end) transfer.items.pop_front();
  if (transfer.lines_left == 0) complete(request, transfer);
}

void KvSender::append_records(const Transfer& transfer, const Item& item, std::int64_t end) {
  records_.clear();
  counted_ = {};
  for (const std::size_t i : senders_) {
    const kv::PartCache& part = options_.caches.parts[i];
    const auto rank =
        static_cast<std::uint32_t>(options_.caches.first_rank) + static_cast<std::uint32_t>(i);
    const kv::LineRun run{
        .id = transfer.order.id,
        .layer = item.layer,
        .first = item.at,
        .end = end,
        .pages = transfer.pages};
    const kv::RecordCount count = transfer.order.shared
                                      ? kv::append_shared_lines(part, rank, run, records_)
                                      : kv::append_lines(part, run, records_);
    counted_.records += count.records;
    counted_.bytes += count.bytes;
  }
}

void KvSender::complete(api::RequestId request, Transfer& transfer) {
  kv::RecordHead head{
      .kind = kv::RecordKind::Commit,
      .records = transfer.sent.records,
      .bytes = transfer.sent.bytes};
  head.set_id(transfer.order.id);
  records_.clear();
  kv::append_record(head, {}, records_);
  if (!transfer.order.outlet->write(records_)) return end(request, transfer, Over::PeerGone);
  transfer.complete = true;
  metrics_.seconds.observe(to_seconds(clock_.now() - transfer.opened));
  if (!transfer.order.shared) end(request, transfer, Over::Sent);
}

void KvSender::look_after_all() {
  for (auto& [request, transfer] : transfers_) {
    if (!transfer.over) look_after(request, transfer);
  }
}

// Tells the peer that somebody is at work, and looks whether the peer is.
void KvSender::look_after(api::RequestId request, Transfer& transfer) {
  const Nanoseconds now = clock_.now();
  const std::size_t unsent = transfer.order.outlet->unsent();
  const bool waits = transfer.complete || unsent > 0;
  if (!waits) transfer.moved = now;
  if (now - transfer.moved > options_.lease) {
    metrics_.holds_expired.add();
    return end(request, transfer, Over::LeaseExpired);
  }
  if (transfer.complete || unsent > 0 || now - transfer.heard < options_.alive_interval) return;
  transfer.heard = now;
  kv::RecordHead head{.kind = kv::RecordKind::Alive};
  head.set_id(transfer.order.id);
  records_.clear();
  kv::append_record(head, {}, records_);
  if (!transfer.order.outlet->write(records_)) end(request, transfer, Over::PeerGone);
}

void KvSender::end(api::RequestId request, Transfer& transfer, Over how) {
  transfer.over = true;
  options_.on_over(request, how);
}

}  // namespace pleiad::engine
