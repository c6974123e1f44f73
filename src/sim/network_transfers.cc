// The connections of a SimNetwork between workers: keys on their way.
#include <algorithm>
#include <utility>

#include "sim/network.h"

namespace pleiad::sim {

api::RequestId SimNetwork::request_of(StreamId stream) const {
  const auto at = streams_.find(stream);
  if (at != streams_.end()) return at->second->request;
  return ordered_.at(stream);
}

bool SimNetwork::wants_keys(StreamId stream) const {
  return std::ranges::any_of(transfers_, [&](const TransferPtr& one) {
    if (one->from_stream != stream) return false;
    const auto to = streams_.find(one->to_stream);
    return to != streams_.end() && router_has(*to->second);
  });
}

// The worker that computes for the stream's transfer dies of it.
void SimNetwork::note_killed(StreamId stream) {
  for (const TransferPtr& transfer : transfers_) {
    const auto to = streams_.find(transfer->to_stream);
    if (transfer->from_stream == stream && to != streams_.end()) {
      to->second->killed = transfer->from;
    }
  }
}

void SimNetwork::Process::on_keys_wanted(StreamId stream, const KeyOrder& order) {
  auto transfer = std::make_shared<Transfer>();  // owners: as TransferPtr says
  transfer->request = network_.request_of(stream);
  transfer->to = index_;
  transfer->to_start = host->starts;
  transfer->to_stream = stream;
  transfer->heard = network_.timeline_.now();
  transfer->from = network_.host_of(order.url);
  network_.transfers_.push_back(transfer);
  network_.order_keys(transfer, order);
}

// There and back, then the order itself.
void SimNetwork::order_keys(const TransferPtr& transfer, const KeyOrder& order) {
  timeline_.after(delay() + delay(), [this, transfer, order] {
    if (transfer->over || transfer->silent) return watch_silence(transfer);
    const SimHost& there = *hosts_[transfer->from]->host;
    if (there.cut_off || there.clogged_to > timeline_.now()) {
      timeline_.after(options_.connect_timeout, [this, transfer] {
        lose(transfer, /*broken=*/false);
      });
      return;
    }
    if (there.worker == nullptr) return lose(transfer, /*broken=*/false);
    transfer->from_start = there.starts;
    watch_silence(transfer);
    stay_alive(transfer);
    to_sender(transfer, [this, transfer, order] { arrive(transfer, order); });
  });
}

void SimNetwork::arrive(const TransferPtr& transfer, const KeyOrder& order) {
  transfer->from_stream = StreamId(next_stream_++);
  ordered_[transfer->from_stream] = transfer->request;
  const auto taken = hosts_[transfer->from]->host->worker->prefill(transfer->from_stream, order);
  if (taken.ok()) return;
  to_receiver(transfer, [this, transfer] { lose(transfer, /*broken=*/false); });
}

void SimNetwork::Process::on_keys_unwanted(StreamId stream) {
  const auto at = std::ranges::find_if(network_.transfers_, [stream](const TransferPtr& one) {
    return one->to_stream == stream && !one->over;
  });
  if (at == network_.transfers_.end()) return;
  const TransferPtr transfer = *at;
  transfer->over = true;
  network_.transfers_.erase(at);
  if (transfer->from_start == 0) return;
  network_.to_sender(transfer, [&network = network_, transfer] {
    network.hosts_[transfer->from]->host->worker->hang_up(transfer->from_stream);
  });
}

void SimNetwork::Process::on_keys(StreamId stream, const KeyRecord& record) {
  const auto at = std::ranges::find_if(network_.transfers_, [stream](const TransferPtr& one) {
    return one->from_stream == stream;
  });
  if (at != network_.transfers_.end()) network_.send_record(*at, record);
}

void SimNetwork::send_record(const TransferPtr& transfer, const KeyRecord& record) {
  const auto tell = [this, transfer](const KeyRecord& told) {
    to_receiver(transfer, [this, transfer, told] {
      hosts_[transfer->to]->host->worker->take_keys(transfer->to_stream, told);
    });
  };
  const auto chance = [this](double of) { return random_.uniform() < of && !keeps_records_; };
  if (chance(options_.record_strays_chance)) tell(stray_);
  if (!chance(options_.record_lost_chance)) tell(record);
  if (chance(options_.record_twice_chance)) tell(record);
  stray_ = record;
  transfer->committed = transfer->committed || record.kind == KeyRecord::Kind::Commit;
}

void SimNetwork::to_sender(const TransferPtr& transfer, Timeline::Task task) {
  const Nanoseconds clogged = hosts_[transfer->from]->host->clogged_to;
  transfer->sent_last =
      std::max({transfer->sent_last, timeline_.now() + delay(), clogged + delay()});
  timeline_.at(transfer->sent_last, [this, transfer, task = std::move(task)]() mutable {
    const SimHost& there = *hosts_[transfer->from]->host;
    const bool same = there.starts == transfer->from_start && there.worker != nullptr;
    if (transfer->silent || there.cut_off || !same) return;
    in_process(transfer->from, std::move(task));
  });
}

void SimNetwork::to_receiver(const TransferPtr& transfer, Timeline::Task task) {
  const Nanoseconds clogged =
      std::max(hosts_[transfer->from]->host->clogged_from, hosts_[transfer->to]->host->clogged_to);
  transfer->received_last =
      std::max({transfer->received_last, timeline_.now() + delay(), clogged + delay()});
  timeline_.at(transfer->received_last, [this, transfer, task = std::move(task)] {
    const SimHost& there = *hosts_[transfer->to]->host;
    const bool same = there.starts == transfer->to_start && there.worker != nullptr;
    if (transfer->silent || transfer->over || there.cut_off || !same) return;
    if (hosts_[transfer->from]->host->cut_off) return;
    transfer->heard = timeline_.now();
    in_process(transfer->to, [transfer, task] {
      if (!transfer->over) task();
    });
  });
}

// Whoever ordered learns that nothing more comes.
void SimNetwork::lose(const TransferPtr& transfer, bool broken) {
  if (transfer->over) return;
  const SimHost& there = *hosts_[transfer->to]->host;
  if (there.starts != transfer->to_start || there.worker == nullptr) return;
  in_process(transfer->to, [this, transfer, broken] {
    hosts_[transfer->to]->host->worker->lose_keys(transfer->to_stream, broken);
  });
}

// The worker that computes has nothing more to say.
void SimNetwork::end_answer(StreamId stream) {
  for (const TransferPtr& transfer : transfers_) {
    if (transfer->from_stream != stream) continue;
    to_receiver(transfer, [this, transfer] { lose(transfer, /*broken=*/false); });
  }
}

// While the worker that computes is there, and does not stand still.
void SimNetwork::stay_alive(const TransferPtr& transfer) {
  timeline_.after(options_.alive_interval, [this, transfer] {
    const SimHost& there = *hosts_[transfer->from]->host;
    const bool same = there.starts == transfer->from_start && there.worker != nullptr;
    if (transfer->over || transfer->committed || !same) return;
    in_process(transfer->from, [this, transfer] { to_receiver(transfer, [] {}); });
    stay_alive(transfer);
  });
}

void SimNetwork::watch_silence(const TransferPtr& transfer) {
  timeline_.at(transfer->heard + options_.prefill_silence_max, [this, transfer] {
    if (transfer->over) return;
    if (timeline_.now() - transfer->heard < options_.prefill_silence_max) {
      watch_silence(transfer);
    } else {
      lose(transfer, /*broken=*/true);
    }
  });
}

// A process is dead: its peers hear of it, unless nothing passes between them.
void SimNetwork::end_transfers(std::size_t host) {
  const std::vector<TransferPtr> all = transfers_;
  for (const TransferPtr& transfer : all) {
    if (transfer->to == host) {
      transfer->over = true;
      std::erase(transfers_, transfer);
      if (transfer->from_start == 0) continue;
      to_sender(transfer, [this, transfer] {
        hosts_[transfer->from]->host->worker->hang_up(transfer->from_stream);
      });
    } else if (transfer->from == host && !transfer->silent) {
      const bool broken = transfer->from_start != 0;
      timeline_.after(delay(), [this, transfer, broken] { lose(transfer, broken); });
    }
  }
}

SimNetwork::TransferPtr SimNetwork::draw_transfer(std::size_t host) {
  std::vector<TransferPtr> there;
  for (const TransferPtr& transfer : transfers_) {
    const bool stands = transfer->from_start != 0 && !transfer->silent;
    if ((transfer->from == host || transfer->to == host) && stands) there.push_back(transfer);
  }
  return there.empty() ? nullptr : there[random_.below(there.size())];
}

bool SimNetwork::break_transfer(std::size_t host) {
  const TransferPtr transfer = draw_transfer(host);
  if (transfer == nullptr) return false;
  to_sender(transfer, [this, transfer] {
    hosts_[transfer->from]->host->worker->hang_up(transfer->from_stream);
  });
  timeline_.after(delay(), [this, transfer] { lose(transfer, /*broken=*/true); });
  return true;
}

bool SimNetwork::silence_transfer(std::size_t host) {
  const TransferPtr transfer = draw_transfer(host);
  if (transfer == nullptr) return false;
  transfer->silent = true;
  return true;
}

}  // namespace pleiad::sim
