#include "engine/kv_fetch.h"

#include <utility>

#include "base/log.h"

namespace pleiad::engine {

KvFetch::KvFetch(Options options, const Shared& shared)
    : options_(std::move(options)), shared_(shared), begin_(shared.clock.now()) {
  shared_.metrics.holds.add(1.0);
  call_ = shared_.source.ask(options_.from.url, *this);
}

KvFetch::~KvFetch() {
  call_.reset();
  shared_.metrics.holds.add(-1.0);
}

Result<api::PrefillOrder> KvFetch::on_offer(std::string_view text) {
  PLEIAD_TRY(offer, prefill_offer_of(text));
  PLEIAD_TRY(check_pair(shared_.own, offer));
  kv::TransferPlan plan = options_.plan;
  api::PrefillOrder order = options_.order;
  order.instance = offer.instance;
  sources_.clear();
  if (options_.share_memory) {
    auto mapped = shared_.mapped.open(offer);
    order.shared = mapped.ok();
    if (mapped.ok()) sources_ = std::move(*mapped);
    if (!mapped.ok()) PLEIAD_LOG(Debug, "{}: {}", options_.from.url, mapped.error().message);
  }
  for (const MappedCaches::Mapped& one : sources_) {
    plan.sources.push_back(one.source);
  }
  assembly_.emplace(std::move(plan));
  return order;
}

Result<void> KvFetch::on_bytes(std::string_view bytes) {
  if (!assembly_) return corrupt("keys and values before they were ordered");
  reader_.feed(bytes);
  while (!ended_) {
    PLEIAD_TRY(record, reader_.next());
    if (!record) return {};
    const std::uint64_t before = assembly_->bytes();
    PLEIAD_TRY(taken, assembly_->take(*record));
    shared_.metrics.bytes.add(static_cast<double>(assembly_->bytes() - before));
    if (taken == kv::Assembly::Taken::Dropped) shared_.metrics.dropped.add();
    if (taken == kv::Assembly::Taken::Committed) end({});
  }
  return {};
}

void KvFetch::on_end(api::KvEnding ending) {
  if (ended_) return;
  if (ending.how.ok()) {
    ending.how = unavailable("it ended its answer before everything was there");
  }
  end(std::move(ending));
}

void KvFetch::end(api::KvEnding ending) {
  ended_ = true;
  if (ending.how.ok()) {
    shared_.metrics.seconds.observe(to_seconds(shared_.clock.now() - begin_));
  } else {
    Error why = std::move(ending.how).error();
    shared_.metrics.failed.add();
    if (why.kind == ErrorKind::Timeout) shared_.metrics.holds_expired.add();
    ending.how = with_context(std::move(why), "prefill worker " + options_.from.url);
  }
  options_.on_end(std::move(ending));
}

}  // namespace pleiad::engine
