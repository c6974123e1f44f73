#include "sim/worker.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "sim/stub_model.h"

namespace pleiad::sim {

SimWorker::SimWorker(Timeline& timeline, WorkerOutput& output, const Options& options)
    : timeline_(timeline),
      output_(output),
      options_(options),
      plans_(options.dp_ranks),
      alive_(std::make_shared<bool>(true)) {
  const auto slots =
      static_cast<std::size_t>(options.scheduler.running_max + options.scheduler.waiting_max);
  for (std::size_t rank = 0; rank < options.dp_ranks; ++rank) {
    ranks_.emplace_back(options.scheduler);
    slots_.emplace_back(slots);
  }
}

Result<void> SimWorker::submit(StreamId stream, const api::GenerationRequest& request) {
  if (!accepting_) return unavailable("the worker is draining");
  if (request.prefill_from && options_.role != api::Role::Decode) {
    return invalid_input("this worker takes no prompts over");
  }
  const bool awaits = request.prefill_from && request.prompt.size() > 1;
  Request added{
      .stream = stream,
      .rank = static_cast<std::size_t>(request.dp_rank.value_or(0)),
      .prompt_tokens = client_prompt_tokens(request),
      .tokens_left = request.max_tokens,
      .scored_end = static_cast<std::int64_t>(request.prompt.size()),
      .ignore_eos = request.ignore_eos,
      .poisoned = request.prompt.front() == kPoison};
  if (awaits) added.prefill_from = request.prefill_from;
  return add(
      std::move(added),
      {.prompt = request.prompt,
       .max_tokens = request.max_tokens,
       .cache_salt = request.cache_salt,
       .priority = request.priority,
       .score_prompt = request.prompt_top_logprobs.has_value(),
       .awaits_keys = awaits}
  );
}

Result<void> SimWorker::prefill(StreamId stream, const KeyOrder& order) {
  if (!accepting_) return unavailable("the worker is draining");
  if (options_.role != api::Role::Prefill) {
    return invalid_input("this worker computes no prompts for others");
  }
  Request added{
      .stream = stream,
      .rank = static_cast<std::size_t>(order.dp_rank.value_or(0)),
      .poisoned = order.prompt.front() == kPoison,
      .order = order,
      .sent = order.first};
  return add(
      std::move(added),
      {.prompt = order.prompt,
       .cache_salt = order.cache_salt,
       .priority = order.priority,
       .keys_only = true}
  );
}

Result<void> SimWorker::add(Request request, sched::Arrival arrival) {
  const std::size_t rank = request.rank;
  if (rank >= ranks_.size()) return invalid_input("there is no dp rank {}", rank);
  PLEIAD_TRY(slot, ranks_[rank].add(std::move(arrival)));
  const std::uint64_t id = next_id_++;
  request.id = api::RequestId(id);
  request.slot = slot;
  requests_.emplace(id, std::move(request));
  slots_[rank][slot.index()] = id;
  wake();
  return {};
}

void SimWorker::wake() {
  if (!stepping_) begin_step();
}

SimWorker::Request* SimWorker::find(StreamId stream) {
  const auto at =
      std::ranges::find_if(requests_, [&](const auto& one) { return one.second.stream == stream; });
  return at == requests_.end() ? nullptr : &at->second;
}

void SimWorker::ask_end(Request& request, api::FinishReason reason) {
  if (request.order && options_.defect.never_lets_go) return;
  request.ends = reason;
  wake();
}

void SimWorker::hang_up(StreamId stream) {
  Request* request = find(stream);
  if (request != nullptr) ask_end(*request, api::FinishReason::Cancelled);
}

void SimWorker::finish_early(api::RequestId id) {
  const auto at = requests_.find(id.value());
  if (at != requests_.end()) ask_end(at->second, api::FinishReason::Stop);
}

void SimWorker::give_up() {
  for (auto& [id, request] : requests_) {
    request.ends = api::FinishReason::Cancelled;
  }
  wake();
}

void SimWorker::lose_rank(std::size_t rank) {
  for (auto& [id, request] : requests_) {
    if (request.rank == rank) request.ends = api::FinishReason::Lost;
  }
  wake();
}

// A step with nothing to compute takes time too: ranks agree on it.
void SimWorker::begin_step() {
  if (requests_.empty()) return;
  Nanoseconds longest{0};
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    const auto chunks = ranks_[rank].plan_step();
    plans_[rank].assign(chunks.begin(), chunks.end());
    longest = std::max(longest, cost_of(chunks));
    begin_hand_overs(rank);
  }
  if (!has_work()) return;
  stepping_ = true;
  timeline_.after((options_.cost.fixed + longest) * slowness_, [this, alive = alive_] {
    if (!*alive) return;
    step_due_ = frozen_;
    if (!frozen_) end_step();
  });
}

// Whether a step would do anything; what holds pages for others waits without steps.
bool SimWorker::has_work() const {
  const bool runs = std::ranges::any_of(plans_, [](const auto& plan) { return !plan.empty(); });
  return runs || std::ranges::any_of(requests_, [](const auto& one) {
           return one.second.ends || one.second.received;
         });
}

// Of the sequences that the plan of a rank's step admitted.
void SimWorker::begin_hand_overs(std::size_t rank) {
  for (const sched::SlotId slot : ranks_[rank].admitted()) {
    Request& request = requests_.at(*slots_[rank][slot.index()]);
    if (request.order) {
      send_keys(request);  // what was cached
      continue;
    }
    const auto tokens = ranks_[rank].tokens(slot);
    const std::int64_t computed = ranks_[rank].computed(slot);
    const auto prompt = tokens.first(tokens.size() - 1);
    KeyOrder order{
        .url = request.prefill_from->url,
        .dp_rank = request.prefill_from->dp_rank,
        .prompt = {prompt.begin(), prompt.end()},
        .first = computed};
    order.transfer = hash64(options_.instance) + request.id.value();
    request.assembly.emplace(
        order.transfer, computed, static_cast<std::int64_t>(prompt.size()), options_.defect.assembly
    );
    output_.on_keys_wanted(request.stream, order);
  }
}

// Keys of the prompt that are there and not sent yet; behind the last of them, the commit.
void SimWorker::send_keys(Request& request) {
  const std::uint64_t transfer = request.order->transfer;
  const sched::Scheduler& rank = ranks_[request.rank];
  const std::int64_t end = rank.computed(request.slot);
  if (end > request.sent) {
    const auto tokens =
        rank.tokens(request.slot)
            .subspan(
                static_cast<std::size_t>(request.sent), static_cast<std::size_t>(end - request.sent)
            );
    output_.on_keys(
        request.stream,
        {.transfer = transfer, .first = request.sent, .tokens = {tokens.begin(), tokens.end()}}
    );
    request.sent = end;
    ++request.records;
  }
  if (!rank.kept(request.slot) || request.committed) return;
  request.committed = true;
  output_.on_keys(
      request.stream,
      {.transfer = transfer, .kind = KeyRecord::Kind::Commit, .records = request.records}
  );
  watch_lease(request.id.value());
}

void SimWorker::watch_lease(std::uint64_t id) {
  timeline_.after(options_.lease, [this, id, alive = alive_] {
    if (!*alive) return;
    const auto at = requests_.find(id);
    if (at == requests_.end()) return;
    ++expired_;
    ask_end(at->second, api::FinishReason::Error);
  });
}

void SimWorker::take_keys(StreamId stream, const KeyRecord& record) {
  Request* request = find(stream);
  if (request == nullptr || !request->assembly || request->received) return;
  switch (request->assembly->take(record)) {
    case KeyAssembly::Taken::Nothing:
      return;
    case KeyAssembly::Taken::Committed:
      request->received = true;
      wake();
      return;
    case KeyAssembly::Taken::Corrupt:
      lose_keys(stream, /*broken=*/true);
      return;
    case KeyAssembly::Taken::Failed:
      lose_keys(stream, /*broken=*/false);
      return;
  }
}

void SimWorker::lose_keys(StreamId stream, bool broken) {
  Request* request = find(stream);
  if (request == nullptr || !request->assembly || request->received || request->ends) return;
  request->keys_lost = true;
  request->keys_broken = broken;
  ask_end(*request, api::FinishReason::Lost);
}

void SimWorker::take_what_was_received() {
  for (auto& [id, request] : requests_) {
    if (!request.received || request.ends) continue;
    const auto tokens = ranks_[request.rank].tokens(request.slot);
    const auto& keys = request.assembly->tokens();
    const auto first = static_cast<std::size_t>(request.assembly->first());
    const bool right = first + keys.size() + 1 == tokens.size() &&
                       std::ranges::equal(keys, tokens.subspan(first, keys.size()));
    request.goes_on_wrongly = !right;
    request.received = false;
    request.assembly.reset();
    ranks_[request.rank].receive(request.slot);
    output_.on_keys_unwanted(request.stream);  // the worker that sent may let go
  }
}

Nanoseconds SimWorker::cost_of(std::span<const sched::PlannedChunk> chunks) const {
  Nanoseconds sum{0};
  for (const sched::PlannedChunk& chunk : chunks) {
    sum += chunk.last && chunk.count == 1 ? options_.cost.per_decoding_row
                                          : options_.cost.per_prompt_token * chunk.count;
  }
  return sum;
}

void SimWorker::go_on() {
  frozen_ = false;
  if (std::exchange(step_due_, false)) end_step();
}

void SimWorker::end_step() {
  stepping_ = false;
  ++steps_;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    for (const sched::PlannedChunk& chunk : plans_[rank]) {
      if (!run_chunk(rank, chunk)) return;
    }
  }
  end_what_was_asked();
  take_what_was_received();
  begin_step();
}

// False: it killed the worker.
bool SimWorker::run_chunk(std::size_t rank, const sched::PlannedChunk& chunk) {
  Request& request = requests_.at(*slots_[rank][chunk.slot.index()]);
  ranks_[rank].complete(chunk);
  if (request.poisoned) {
    output_.on_poisoned(request.stream);
    return false;
  }
  if (request.order) {
    send_keys(request);
    return true;
  }
  if (chunk.all_logits) score(request, chunk);
  if (chunk.last) take_token(request);
  return true;
}

void SimWorker::score(Request& request, const sched::PlannedChunk& chunk) {
  const auto tokens = ranks_[request.rank].tokens(request.slot);
  const std::int64_t end = std::min(chunk.first + chunk.count + 1, request.scored_end);
  for (; request.scored < end; ++request.scored) {
    output_.on_prompt_token(
        request.stream,
        {.request = request.id,
         .chosen = {tokens[static_cast<std::size_t>(request.scored)], -1.0F},
         .position = static_cast<std::int32_t>(request.scored)}
    );
  }
}

void SimWorker::take_token(Request& request) {
  sched::Scheduler& rank = ranks_[request.rank];
  const auto tokens = rank.tokens(request.slot);
  if (request.tokens_left == 0) {
    end(request, {.reason = api::FinishReason::Length});
    return;
  }
  const TokenId token =
      stub_token(tokens, request.prompt_tokens + (request.goes_on_wrongly ? 1 : 0));
  if (token == kStubEnd && !request.ignore_eos) {
    end(request, {.reason = api::FinishReason::Stop, .stop_token = token});
    return;
  }
  output_.on_token(
      request.stream,
      {.request = request.id,
       .chosen = {token, -1.0F},
       .position = static_cast<std::int32_t>(tokens.size())}
  );
  if (--request.tokens_left == 0) {
    end(request, {.reason = api::FinishReason::Length});
  } else {
    rank.append(request.slot, token);
  }
}

void SimWorker::end(Request& request, const api::FinishEvent& event) {
  api::FinishEvent told = event;
  told.request = request.id;
  told.cached_tokens = static_cast<std::int32_t>(ranks_[request.rank].cached_tokens(request.slot));
  told.prefill_lost = request.keys_lost;
  told.prefill_broken = request.keys_broken;
  ranks_[request.rank].remove(request.slot);
  slots_[request.rank][request.slot.index()].reset();
  if (request.assembly) output_.on_keys_unwanted(request.stream);
  const bool gives_up = request.order && !request.committed;
  if (gives_up && event.reason != api::FinishReason::Cancelled) {
    output_.on_keys(
        request.stream, {.transfer = request.order->transfer, .kind = KeyRecord::Kind::Failed}
    );
  }
  output_.on_finish(request.stream, told);
  requests_.erase(request.id.value());
}

void SimWorker::end_what_was_asked() {
  std::vector<std::uint64_t> ending;
  for (const auto& [id, request] : requests_) {
    if (request.ends) ending.push_back(id);
  }
  std::ranges::sort(ending);
  for (const std::uint64_t id : ending) {
    Request& request = requests_.at(id);
    end(request, {.reason = *request.ends});
  }
}

api::WorkerReport SimWorker::report() const {
  api::WorkerReport report{
      .instance = options_.instance,
      .identity = options_.identity,
      .role = options_.role,
      .limits =
          {.vocabulary = kStubVocabulary + 1,
           .model_tokens_max = options_.scheduler.sequence_tokens_max},
      .accepting = accepting_,
  };
  for (const sched::Scheduler& rank : ranks_) {
    const sched::SchedulerStats stats = rank.stats();
    report.ranks.push_back({
        .accepting = accepting_,
        .running = stats.running,
        .waiting = stats.waiting,
        .pages_total = rank.page_pool().total(),
        .pages_held = rank.page_pool().held(),
        .pages_cached = rank.page_pool().cached(),
        .steps = steps_,
    });
  }
  for (const auto& [id, request] : requests_) {
    const auto tokens = ranks_[request.rank].tokens(request.slot).size();
    report.ranks[request.rank].tokens_outstanding +=
        static_cast<std::int64_t>(tokens) + request.tokens_left;
  }
  return report;
}

std::int64_t SimWorker::pages_held() const {
  std::int64_t held = 0;
  for (const sched::Scheduler& rank : ranks_) {
    held += rank.page_pool().held();
  }
  return held;
}

std::int64_t SimWorker::queued() const {
  std::int64_t waiting = 0;
  for (const sched::Scheduler& rank : ranks_) {
    waiting += rank.stats().waiting;
  }
  return waiting;
}

}  // namespace pleiad::sim
