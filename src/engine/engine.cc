#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "engine/model_draw.h"
#include "engine/request_check.h"

namespace pleiad::engine {
namespace {

// What a request may come to, as load.
std::int64_t tokens_of(const api::GenerationRequest& request) {
  return static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens;
}

}  // namespace

api::GeneratorLimits
limits_of(const model::ModelShape& shape, const sched::SchedulerOptions& limits) {
  return {
      .vocabulary = shape.vocabulary,
      .model_tokens_max = std::min(limits.sequence_tokens_max, limits.pages * sched::kPageTokens),
  };
}

namespace {

// A rank without tensor parts beside it shares nothing.
SharedBatch::Limits shared_limits(const EngineParts& parts, const model::ModelShape& shape) {
  if (parts.tensor.parts == 1) return {};
  return {
      .rows_max = parts.limits.step_tokens_max,
      .sequences_max = parts.limits.running_max,
      .logit_rows_max = parts.limits.logit_rows_max,
      .context_max = parts.limits.sequence_tokens_max,
      .vocabulary = shape.vocabulary,
      .pages = parts.limits.pages,
  };
}

}  // namespace

Engine::Engine(EngineParts parts, Peers peers, const Clock& clock, MetricsRegistry& registry)
    : parts_(std::move(parts)),
      peers_(std::move(peers)),
      clock_(clock),
      metrics_(registry, parts_.model_name, parts_.rank),
      shape_(parts_.model->shape()),
      scheduler_(parts_.limits),
      batch_(parts_.limits.step_tokens_max, parts_.limits.logit_rows_max, shape_.vocabulary),
      shared_batch_(parts_.tensor, shared_limits(parts_, shape_)),
      next_id_(static_cast<std::uint64_t>(parts_.ranks + parts_.rank)) {
  const auto workers = static_cast<std::size_t>(parts_.pool->workers());
  samplers_.reserve(workers);
  for (std::size_t i = 0; i < workers; ++i) {
    samplers_.emplace_back(shape_.vocabulary);
  }
  live_.resize(static_cast<std::size_t>(parts_.limits.running_max + parts_.limits.waiting_max));
  sampled_.resize(static_cast<std::size_t>(parts_.limits.running_max));
  metrics_.pages_total.set(static_cast<double>(parts_.limits.pages));
  const auto tokens = parts_.model->expert_tokens();  // of groups before this one, too
  expert_tokens_.assign(tokens.begin(), tokens.end());
  if (peers_.room != nullptr) make_hand_overs(registry);
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  begin_stop();
  join();
}

void Engine::begin_stop() {
  stop_accepting();
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake();
}

void Engine::join() {
  if (!thread_.joinable()) return;
  if (peers_.lockstep != nullptr) {
    peers_.lockstep->abort(unavailable("rank {} is shutting down", parts_.rank));
  }
  thread_.join();
}

Result<api::RequestId> Engine::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  const api::RequestId id(next_id_.fetch_add(static_cast<std::uint64_t>(parts_.ranks)));
  PLEIAD_TRY(submit_as(id, std::move(request), sink));
  return id;
}

Result<void> Engine::check(const api::GenerationRequest& request) const {
  PLEIAD_TRY(HandOvers::check(role(), request));
  return check_request(request, parts_.limits, shape_.vocabulary);
}

Result<void>
Engine::submit_as(api::RequestId id, api::GenerationRequest request, api::GenerationSink& sink) {
  PLEIAD_TRY(check(request));
  Submission submission{
      .id = id,
      .request = std::move(request),
      .sink = &sink,
      .submitted = clock_.now(),
  };
  // Before the engine's thread can know of it.
  const bool sends = submission.request.kv_order.has_value();
  if (sends) hand_overs_->open(id, submission.request);
  auto posted = post(std::move(submission));
  if (sends && !posted.ok()) hand_overs_->end(id, {});
  return posted;
}

Result<void> Engine::post(Submission submission) {
  {
    const std::scoped_lock lock(mutex_);
    if (!failure_.empty()) return unavailable("the group of ranks broke: {}", failure_);
    if (stopping_ || !accepting_.load()) return unavailable("the engine is draining");
    if (open_requests_.load() >= places()) {
      return exhausted("{} requests are in flight already", places());
    }
    if (open_requests_.fetch_add(1) == 0) progress_ns_.store(clock_.now().count());
    tokens_outstanding_.fetch_add(tokens_of(submission.request));
    mail_.submissions.push_back(std::move(submission));
  }
  wake();
  return {};
}

void Engine::break_group(const Error& reason) const {
  if (peers_.lockstep != nullptr) peers_.lockstep->abort(reason);
}

// The engine's thread sleeps in one of two places.
void Engine::wake() {
  if (peers_.lockstep != nullptr) {
    peers_.lockstep->interrupt();
  } else {
    wake_.notify_one();
  }
}

void Engine::cancel(api::RequestId request) {
  ask_to_end({.id = request});
}

void Engine::finish_early(api::RequestId request) {
  ask_to_end({.id = request, .reason = api::FinishReason::Stop});
}

void Engine::ask_to_end(Ending ending) {
  {
    const std::scoped_lock lock(mutex_);
    mail_.endings.push_back(std::move(ending));
  }
  wake();
}

void Engine::reset_prefix_cache() {
  {
    const std::scoped_lock lock(mutex_);
    mail_.reset_prefix_cache = true;
  }
  wake();
}

api::GeneratorStatus Engine::status() const {
  const std::int64_t open = open_requests_.load();
  const std::int64_t since_ns = clock_.now().count() - progress_ns_.load();
  return {
      .accepting = accepting_.load(),
      .running = running_.load(),
      .waiting = waiting_.load(),
      .pages_total = parts_.limits.pages,
      .pages_held = pages_held_.load(),
      .pages_cached = pages_cached_.load(),
      .steps = steps_.load(),
      .tokens_outstanding = tokens_outstanding_.load(),
      .seconds_since_progress =
          open > 0 && !resting_.load() ? to_seconds(Nanoseconds{since_ns}) : 0.0,
  };
}

api::GeneratorLimits Engine::limits() const {
  return limits_of(shape_, parts_.limits);
}

void Engine::run() {
  const Result<void> ended = run_until_stopped();
  bool stopping = false;
  Mail last;
  {
    const std::scoped_lock lock(mutex_);
    stopping = stopping_;
    if (!ended.ok() && !stopping) {
      accepting_.store(false);
      failure_ = ended.error().message;
    }
    std::swap(last, mail_);
  }
  for (Submission& submission : last.submissions) {
    admit(std::move(submission));
  }
  if (ended.ok() || stopping) {
    finish_all(api::FinishReason::Cancelled, {});
  } else {
    PLEIAD_LOG(Error, "rank {}: the group broke: {}", parts_.rank, ended.error().message);
    finish_all(api::FinishReason::Lost, ended.error().message);
  }
  publish_state();
  if (!ended.ok() && !stopping && peers_.on_failure) peers_.on_failure(ended.error());
}

Result<void> Engine::run_until_stopped() {
  Mail mail;
  for (;;) {
    PLEIAD_TRY(go_on, take_mail(mail));
    if (!go_on) return {};
    handle(mail);
    const bool with_peers = peers_.lockstep != nullptr && called_;
    if (resting_.exchange(false)) progress_ns_.store(clock_.now().count());
    if (with_peers || has_work()) PLEIAD_TRY(step());
    called_ = false;
    publish_state();
  }
}

// Sleeps while there is nothing to do. False: the engine is to end; what still came lies in mail_.
Result<bool> Engine::take_mail(Mail& mail) {
  while (fetch_mail(mail)) {
    const bool asked = called_ || has_work() || !mail.empty();
    if (asked || peers_.lockstep == nullptr) return true;
    PLEIAD_TRY(woken, peers_.lockstep->wait());
    called_ = woken == comm::Group::Wake::Message;
  }
  return false;
}

// What has come; a rank alone sleeps here while nothing has. False: the engine is to end.
bool Engine::fetch_mail(Mail& mail) {
  std::unique_lock lock(mutex_);
  if (peers_.lockstep == nullptr && !has_work()) {
    wake_.wait(lock, [this] { return stopping_ || !mail_.empty(); });
  }
  if (stopping_) return false;
  std::swap(mail, mail_);
  return true;
}

void Engine::handle(Mail& mail) {
  if (!mail.empty()) blocked_ = false;
  for (Submission& submission : mail.submissions) {
    admit(std::move(submission));
  }
  for (Ending& ending : mail.endings) {
    const auto found = slots_.find(ending.id);
    if (found == slots_.end()) continue;
    finish(found->second, {.reason = ending.reason, .message = std::move(ending.message)});
  }
  for (Receipt& receipt : mail.receipts) {
    take_receipt(std::move(receipt));
  }
  if (mail.reset_prefix_cache) scheduler_.drop_cached_pages();
  mail.submissions.clear();
  mail.endings.clear();
  mail.receipts.clear();
  mail.reset_prefix_cache = false;
}

void Engine::admit(Submission submission) {
  api::GenerationRequest& request = submission.request;
  const auto prompt_tokens =
      static_cast<std::int32_t>(request.prompt.size()) - request.resumed_tokens;
  const std::int64_t tokens = tokens_of(request);
  auto added = scheduler_.add({
      .prompt = std::move(request.prompt),
      .max_tokens = request.max_tokens,
      .cache_salt = request.cache_salt,
      .priority = request.priority,
      .score_prompt = request.prompt_top_logprobs.has_value(),
      .keys_only = request.kv_order.has_value(),
      .awaits_keys = request.prefill_from.has_value(),
  });
  if (!added.ok()) {
    // submit() judged by the same limits, so this is for the log as well as for the client.
    PLEIAD_LOG(Error, "request {} refused: {}", submission.id.value(), added.error().message);
    open_requests_.fetch_sub(1);
    tokens_outstanding_.fetch_sub(tokens);
    if (request.kv_order) hand_overs_->end(submission.id, added.error().message);
    submission.sink->on_finish({
        .request = submission.id,
        .reason = api::FinishReason::Error,
        .stop_token = std::nullopt,
        .prompt_tokens = prompt_tokens,
        .message = added.error().message,
    });
    return;
  }
  metrics_.request_max_tokens.observe(request.max_tokens);
  slots_.emplace(submission.id, *added);
  live(*added) = {
      .id = submission.id,
      .request = std::move(request),
      .sink = submission.sink,
      .prompt_tokens = prompt_tokens,
      .tokens = tokens,
      .submitted = submission.submitted,
  };
}

// One step of the model. With peers, also one to which this rank brings nothing.
Result<void> Engine::step() {
  const std::span<const sched::PlannedChunk> plan = scheduler_.plan_step();
  if (!scheduler_.admitted().empty()) begin_hand_overs();
  blocked_ = plan.empty();
  if (plan.empty() && !called_) {
    PLEIAD_CHECK(scheduler_.holds() > 0, "a scheduler with work always has a step");
    return {};
  }
  const Nanoseconds begin = clock_.now();
  note_first_step(plan, begin);
  batch_.assemble(scheduler_, plan);
  if (parts_.model->draws()) ask_for_draws(plan);
  model::Batch batch = batch_.batch();
  batch.observer = observer_of(plan);
  if (peers_.lockstep != nullptr) {
    PLEIAD_TRY(go_on, agree(batch));
    if (!go_on) return {};
  }
  PLEIAD_TRY(parts_.model->forward(batch, parts_.cache));
  for (const sched::PlannedChunk& chunk : plan) {
    scheduler_.complete(chunk);
  }
  sample_all(plan);
  for (std::size_t i = 0; i < plan.size(); ++i) {
    deliver(i, plan[i]);
  }

  metrics_.steps.add();
  metrics_.step_tokens.observe(static_cast<double>(batch_.rows()));
  metrics_.step_seconds.observe(to_seconds(clock_.now() - begin));
  steps_.fetch_add(1);
  progress_ns_.store(clock_.now().count());
  return {};
}

// What all ranks bring to the next step; false when it is nothing. Tensor parts get the rows of the
// one that leads.
Result<bool> Engine::agree(model::Batch& batch) {
  Lockstep& lockstep = *peers_.lockstep;
  PLEIAD_TRY(agreed, lockstep.agree(batch_.rows()));
  if (lockstep.rows_of_all() == 0) return false;
  if (parts_.tensor.parts > 1 && lockstep.rows_of_parts() > 0) {
    comm::Group& group = *agreed->group;
    if (leads()) {
      PLEIAD_TRY(shared_batch_.send(group, batch));
    } else {
      PLEIAD_TRY(shared, shared_batch_.receive(group, lockstep.rows_of_parts()));
      batch = shared;
    }
  }
  batch.group = agreed;
  return true;
}

void Engine::note_first_step(std::span<const sched::PlannedChunk> plan, Nanoseconds begin) {
  for (const sched::PlannedChunk& chunk : plan) {
    Live& request = live(chunk.slot);
    if (request.first_step != Nanoseconds{}) continue;
    request.first_step = begin;
    metrics_.queue_seconds.observe(to_seconds(begin - request.submitted));
  }
}

// The logit row that a chunk's next token comes from.
std::size_t Engine::sampled_row(std::size_t index, const sched::PlannedChunk& chunk) const {
  const auto rows_before = static_cast<std::size_t>(chunk.all_logits ? chunk.count - 1 : 0);
  return batch_.first_logit_row(index) + rows_before;
}

// Leaves to the model what it can draw itself.
void Engine::ask_for_draws(std::span<const sched::PlannedChunk> plan) {
  for (std::size_t i = 0; i < plan.size(); ++i) {
    const Live& request = live(plan[i].slot);
    if (!plan[i].last || request.request.max_tokens == 0) continue;
    const auto output =
        scheduler_.tokens(plan[i].slot).size() - static_cast<std::size_t>(request.prompt_tokens);
    const auto draw = model_draw(request.request, output);
    if (draw) batch_.draw(sampled_row(i, plan[i]), *draw);
  }
}

// Worker w takes chunks w, w + workers, ...: each Sampler serves one worker.
void Engine::sample_all(std::span<const sched::PlannedChunk> plan) {
  const std::size_t workers = std::min(samplers_.size(), plan.size());
  parts_.pool->parallel_for(workers, [&](std::size_t worker) {
    for (std::size_t i = worker; i < plan.size(); i += workers) {
      sample_chunk(i, plan[i], samplers_[worker]);
    }
  });
}

void Engine::sample_chunk(std::size_t index, const sched::PlannedChunk& chunk, Sampler& sampler) {
  const Live& request = live(chunk.slot);
  if (!chunk.last || request.request.max_tokens == 0) return;
  const std::size_t row = sampled_row(index, chunk);
  const auto tokens = scheduler_.tokens(chunk.slot);
  api::TokenEvent& event = sampled_[index];
  event.request = request.id;
  event.position = static_cast<std::int32_t>(tokens.size());
  event.top_count = 0;
  if (const model::Drawn& drawn = batch_.drawn(row); drawn.done) {
    event.chosen = drawn_logprob(drawn);
    return;
  }
  const auto logits = batch_.logits(row);
  const auto prompt_tokens = static_cast<std::size_t>(request.prompt_tokens);
  const TokenId token = sampler.sample({
      .logits = logits,
      .prompt = tokens.first(prompt_tokens),
      .output = tokens.subspan(prompt_tokens),
      .sampling = &request.request.sampling,
  });
  event.chosen = {token, 0.0F};
  if (request.request.top_logprobs) {
    score_token(logits, token, *request.request.top_logprobs, event);
  }
}

void Engine::deliver(std::size_t index, const sched::PlannedChunk& chunk) {
  Live& request = live(chunk.slot);
  if (chunk.all_logits) deliver_prompt_scores(index, chunk, request);
  if (scheduler_.kept(chunk.slot)) metrics_.prompt_tokens.add(request.prompt_tokens);
  if (!chunk.last) return;
  if (request.output_tokens == 0) metrics_.prompt_tokens.add(request.prompt_tokens);
  if (request.request.max_tokens == 0) {
    finish(chunk.slot, {.reason = api::FinishReason::Length});
    return;
  }
  const api::TokenEvent& event = sampled_[index];
  if (stops(request, event.chosen.token)) {
    finish(chunk.slot, {.reason = api::FinishReason::Stop, .stop_token = event.chosen.token});
    return;
  }
  ++request.output_tokens;
  observe_token(request);
  request.sink->on_token(event);
  if (request.output_tokens == request.request.max_tokens) {
    finish(chunk.slot, {.reason = api::FinishReason::Length});
  } else {
    scheduler_.append(chunk.slot, event.chosen.token);
  }
}

// Row i of the chunk, at position p, scores the prompt token at p + 1.
void Engine::deliver_prompt_scores(
    std::size_t index,
    const sched::PlannedChunk& chunk,
    Live& request
) {
  const auto tokens = scheduler_.tokens(chunk.slot);
  for (std::int64_t i = 0; i < chunk.count; ++i) {
    const auto position = static_cast<std::int32_t>(chunk.first + i + 1);
    // A sequence computed again after a preemption has reported its first positions already.
    if (position < request.scored || position >= request.prompt_tokens) continue;
    api::TokenEvent event;
    event.request = request.id;
    event.position = position;
    const auto logits = batch_.logits(batch_.first_logit_row(index) + static_cast<std::size_t>(i));
    const TokenId token = tokens[static_cast<std::size_t>(position)];
    score_token(logits, token, *request.request.prompt_top_logprobs, event);
    request.sink->on_prompt_token(event);
    request.scored = position + 1;
  }
}

bool Engine::stops(const Live& request, TokenId token) const {
  const auto holds = [token](const std::vector<TokenId>& ids) {
    return std::ranges::find(ids, token) != ids.end();
  };
  const bool ends = !request.request.ignore_eos && holds(parts_.eos_tokens);
  return ends || holds(request.request.stop_tokens);
}

void Engine::observe_token(Live& request) {
  const Nanoseconds now = clock_.now();
  if (request.output_tokens == 1) {
    request.first_token = now;
    metrics_.time_to_first_token_seconds.observe(to_seconds(now - request.submitted));
    metrics_.prefill_seconds.observe(to_seconds(now - request.first_step));
  } else {
    metrics_.inter_token_latency_seconds.observe(to_seconds(now - request.last_token));
  }
  request.last_token = now;
  metrics_.generated_tokens.add();
}

void Engine::finish(sched::SlotId slot, Ended ended) {
  Live request = std::exchange(live(slot), Live{});
  PLEIAD_CHECK(request.sink != nullptr);
  if (request.request.kv_order || request.request.prefill_from) {
    end_hand_over(request, ended);
  }
  const std::int64_t cached = scheduler_.cached_tokens(slot);
  scheduler_.remove(slot);
  slots_.erase(request.id);
  open_requests_.fetch_sub(1);
  tokens_outstanding_.fetch_sub(request.tokens);

  switch (ended.reason) {
    case api::FinishReason::Stop:
      metrics_.finished_stop.add();
      break;
    case api::FinishReason::Length:
      metrics_.finished_length.add();
      break;
    case api::FinishReason::Cancelled:
      metrics_.finished_abort.add();
      break;
    case api::FinishReason::Error:
    case api::FinishReason::Lost:
      metrics_.finished_error.add();
      break;
  }
  metrics_.request_latency_seconds.observe(to_seconds(clock_.now() - request.submitted));
  metrics_.request_prompt_tokens.observe(request.prompt_tokens);
  metrics_.request_generated_tokens.observe(request.output_tokens);
  if (request.output_tokens > 1) {
    metrics_.decode_seconds.observe(to_seconds(request.last_token - request.first_token));
  }
  publish_state();
  request.sink->on_finish({
      .request = request.id,
      .reason = ended.reason,
      .stop_token = ended.stop_token,
      .prompt_tokens = request.prompt_tokens,
      .cached_tokens = static_cast<std::int32_t>(cached),
      .output_tokens = request.output_tokens,
      .message = std::move(ended.message),
      .prefill_lost = ended.prefill_lost,
      .prefill_broken = ended.prefill_broken,
  });
}

void Engine::finish_all(api::FinishReason reason, const std::string& message) {
  while (!slots_.empty()) {
    finish(slots_.begin()->second, {.reason = reason, .message = message});
  }
}

}  // namespace pleiad::engine
