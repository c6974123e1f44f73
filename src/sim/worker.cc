#include "sim/worker.h"

#include <algorithm>
#include <utility>

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
  const auto rank = static_cast<std::size_t>(request.dp_rank.value_or(0));
  if (rank >= ranks_.size()) return invalid_input("there is no dp rank {}", rank);
  PLEIAD_TRY(
      slot,
      ranks_[rank].add(
          {.prompt = request.prompt,
           .max_tokens = request.max_tokens,
           .cache_salt = request.cache_salt,
           .priority = request.priority,
           .score_prompt = request.prompt_top_logprobs.has_value()}
      )
  );
  const std::uint64_t id = next_id_++;
  requests_.emplace(
      id,
      Request{
          .id = api::RequestId(id),
          .stream = stream,
          .rank = rank,
          .slot = slot,
          .prompt_tokens = client_prompt_tokens(request),
          .tokens_left = request.max_tokens,
          .scored_end = static_cast<std::int64_t>(request.prompt.size()),
          .ignore_eos = request.ignore_eos,
          .poisoned = request.prompt.front() == kPoison}
  );
  slots_[rank][slot.index()] = id;
  if (!stepping_) begin_step();
  return {};
}

SimWorker::Request* SimWorker::find(StreamId stream) {
  const auto at =
      std::ranges::find_if(requests_, [&](const auto& one) { return one.second.stream == stream; });
  return at == requests_.end() ? nullptr : &at->second;
}

void SimWorker::ask_end(Request& request, api::FinishReason reason) {
  request.ends = reason;
  if (!stepping_) begin_step();
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
  if (!stepping_) begin_step();
}

void SimWorker::lose_rank(std::size_t rank) {
  for (auto& [id, request] : requests_) {
    if (request.rank == rank) request.ends = api::FinishReason::Lost;
  }
  if (!stepping_) begin_step();
}

// A step with nothing to compute takes time too: ranks agree on it.
void SimWorker::begin_step() {
  if (requests_.empty()) return;
  Nanoseconds longest{0};
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    const auto chunks = ranks_[rank].plan_step();
    plans_[rank].assign(chunks.begin(), chunks.end());
    longest = std::max(longest, cost_of(chunks));
  }
  stepping_ = true;
  timeline_.after((options_.cost.fixed + longest) * slowness_, [this, alive = alive_] {
    if (!*alive) return;
    step_due_ = frozen_;
    if (!frozen_) end_step();
  });
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
  const TokenId token = stub_token(tokens, request.prompt_tokens);
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
  ranks_[request.rank].remove(request.slot);
  slots_[request.rank][request.slot.index()].reset();
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
