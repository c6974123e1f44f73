#include "engine/hand_overs.h"

#include <utility>

#include "base/check.h"

namespace pleiad::engine {
namespace {

std::vector<std::uint32_t> numbers(std::span<const sched::PageId> pages) {
  std::vector<std::uint32_t> out;
  out.reserve(pages.size());
  for (const sched::PageId page : pages) {
    out.push_back(page.value());
  }
  return out;
}

}  // namespace

HandOvers::HandOvers(Place place, Events events, const Clock& clock, MetricsRegistry& registry)
    : room_(*place.room),
      place_(std::move(place)),
      events_(std::move(events)),
      clock_(clock),
      metrics_(registry, place_.model_name, place_.rank) {
  runs_.reserve(static_cast<std::size_t>(place_.runs_max));
  if (room_.settings.role != api::Role::Prefill) return;
  sender_ = std::make_unique<KvSender>(
      KvSender::Options{
          .caches = place_.caches, .lease = room_.settings.lease, .on_over = events_.on_over},
      clock_,
      metrics_
  );
}

HandOvers::~HandOvers() = default;

Result<void> HandOvers::check(api::Role role, const api::GenerationRequest& request) {
  if (request.kv_order && role != api::Role::Prefill) {
    return unsupported(
        "--disaggregation-mode is {}: this worker computes no prompts for others; ask one that was "
        "started with prefill",
        api::to_string(role)
    );
  }
  if (request.prefill_from && role != api::Role::Decode) {
    return unsupported(
        "--disaggregation-mode is {}: this worker takes no prompts over from others; ask one that "
        "was started with decode",
        api::to_string(role)
    );
  }
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (request.kv_order && (request.kv_order->first < 0 || request.kv_order->first >= prompt)) {
    return invalid_input(
        "keys and values from token {} on, the prompt has {}", request.kv_order->first, prompt
    );
  }
  if (request.prefill_from && request.prompt_top_logprobs) {
    return invalid_input("a prompt that is to be scored is computed where it is scored");
  }
  return {};
}

void HandOvers::open(api::RequestId id, const api::GenerationRequest& request) {
  sender_->open(id, *request.kv_order, static_cast<std::int64_t>(request.prompt.size()));
}

void HandOvers::begin_sending(
    api::RequestId id,
    std::span<const sched::PageId> pages,
    std::int64_t computed
) {
  sender_->place(id, numbers(pages));
  if (computed > 0) sender_->ship_all_layers({.request = id, .first = 0, .end = computed});
}

void HandOvers::begin_receiving(
    api::RequestId id,
    const api::GenerationRequest& request,
    std::span<const TokenId> tokens,
    std::span<const sched::PageId> pages,
    std::int64_t computed
) {
  const auto prompt = tokens.first(tokens.size() - 1);
  const TransferId transfer{
      .epoch = room_.epoch,
      .number = room_.next_number.fetch_add(1),
      .attempt = request.prefill_from->attempt};
  KvFetch::Options options{
      .from = *request.prefill_from,
      .order =
          {.id = transfer,
           .prompt = {prompt.begin(), prompt.end()},
           .first = computed,
           .cache_salt = request.cache_salt,
           .priority = request.priority,
           .dp_rank = request.prefill_from->dp_rank},
      .plan =
          {.id = transfer,
           .shape = place_.caches.shape,
           .first = computed,
           .end = static_cast<std::int64_t>(prompt.size()),
           .parts = place_.caches.parts,
           .pages = numbers(pages)},
      .share_memory = room_.settings.share_memory,
      .on_end = [this, id](api::KvEnding ending) { events_.on_received(id, std::move(ending)); },
  };
  PLEIAD_CHECK(room_.settings.source != nullptr);
  fetches_.emplace(
      id,
      std::make_unique<KvFetch>(
          std::move(options),
          KvFetch::Shared{
              .own = room_.offer,
              .source = *room_.settings.source,
              .mapped = room_.mapped,
              .clock = clock_,
              .metrics = metrics_}
      )
  );
}

bool HandOvers::end(api::RequestId id, std::string_view why) {
  if (sender_ != nullptr) return sender_->close(id, why);
  fetches_.erase(id);
  return false;
}

}  // namespace pleiad::engine
