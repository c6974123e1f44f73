#include "sim/chaos_setting.h"

#include <iterator>
#include <utility>

#include <fmt/core.h>

namespace pleiad::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::int64_t kSequenceTokensMax = 512;

router::PolicyKind draw_policy(Random& random) {
  constexpr router::PolicyKind kKinds[] = {
      router::PolicyKind::CacheAware,
      router::PolicyKind::PowerOfTwo,
      router::PolicyKind::LeastTokens,
      router::PolicyKind::RoundRobin,
      router::PolicyKind::Random,
  };
  return kKinds[random.below(std::size(kKinds))];
}

// Prefill and decode apart, over a path that may be worse than any real one.
void draw_pairs(Random& random, ChaosSetting& s) {
  s.prefill_hosts = static_cast<std::size_t>(random.between(1, 3));
  s.hosts = s.prefill_hosts + static_cast<std::size_t>(random.between(1, 3));
  s.lease = milliseconds(random.between(2000, 10000));
  s.core.prefill_tokens_min = random.between(1, 200);
  s.network.prefill_silence_max = milliseconds(random.between(1500, 5000));
  if (random.below(3) != 0) return;
  s.network.record_twice_chance = random.below(2) == 0 ? 0.1 : 0.0;
  s.network.record_lost_chance = random.below(2) == 0 ? 0.05 : 0.0;
  s.network.record_strays_chance = random.below(2) == 0 ? 0.1 : 0.0;
}

router::KeyRules draw_key(Random& random) {
  router::KeyRules key;
  const bool chooses = random.below(3) == 0;
  for (std::uint64_t i = 0; chooses && i < kClasses; ++i) {
    if (random.below(2) == 0) key.classes.push_back(class_name(i));
  }
  if (random.below(3) == 0) key.requests_per_minute = random.between(2, 30);
  if (random.below(3) == 0) key.tokens_per_minute = random.between(200, 6000);
  if (random.below(3) == 0) key.concurrent_max = static_cast<std::size_t>(random.between(1, 4));
  return key;
}

router::AdmissionRules draw_rules(Random& random) {
  router::AdmissionRules rules;
  rules.classes.clear();
  for (std::uint64_t i = 0; i < kClasses; ++i) {
    if (i > 0 && random.below(3) == 0) continue;
    router::ClassRules line{.name = class_name(i), .weight = random.between(1, 8)};
    if (random.below(3) != 0) line.priority = static_cast<std::int32_t>(random.below(4));
    line.queue_max = random.below(7);
    line.wait_max = milliseconds(random.between(50, 6000));
    rules.classes.push_back(line);
  }
  for (std::uint64_t i = 0; i + 1 < kKeys; ++i) {
    if (random.below(4) == 0) continue;
    rules.keys.push_back(draw_key(random));
    rules.keys.back().name = key_name(i);
  }
  if (random.below(2) == 0) rules.other_keys = draw_key(random);
  rules.concurrent_max = static_cast<std::size_t>(random.between(1, 12));
  if (random.below(3) == 0) rules.tokens_max = random.between(100, 3000);
  rules.assumed_output_tokens = random.between(1, 40);
  return rules;
}

// Half of the seeds have a gate that stands open.
void draw_gate(Random& random, ChaosSetting& s) {
  s.gate_open = random.below(2) == 0;
  const std::int64_t changes = s.gate_open ? 0 : random.between(0, 3);
  for (std::int64_t i = 0; i <= changes; ++i) {
    router::AdmissionRules rules = s.gate_open ? router::AdmissionRules{} : draw_rules(random);
    rules.classes.push_back({.name = kProbeClass, .queue_max = 8, .wait_max = seconds(60)});
    rules.keys.push_back({.name = kProbeClass});
    s.rules.push_back(std::move(rules));
  }
}

// In half of the seeds workers register themselves, most of them, and their words may go astray.
void draw_registry(Random& random, ChaosSetting& s) {
  if (random.below(2) == 0) return;
  for (std::size_t host = 0; host < s.hosts; ++host) {
    if (random.below(4) != 0) s.registering.push_back(host);
  }
  const std::int64_t lease_ms = random.between(1000, 6000);
  s.registry = {
      .lease = milliseconds(lease_ms),
      .interval = milliseconds(lease_ms * 3 / 10),
      .retry = milliseconds(lease_ms / 10),
      .timeout = milliseconds(lease_ms / 10),
      .sweep_interval = milliseconds(random.between(50, 500)),
      .lost_chance = random.below(2) == 0 ? 0.5 * random.uniform() : 0.0,
      .twice_chance = random.below(2) == 0 ? 0.2 : 0.0,
      .late_chance = random.below(2) == 0 ? 0.2 : 0.0,
  };
}

}  // namespace

std::string class_name(std::uint64_t index) {
  return fmt::format("class {}", index);
}

std::string key_name(std::uint64_t index) {
  return fmt::format("key {}", index);
}

ChaosSetting draw_setting(Random& random) {
  const auto ms = [&](std::int64_t low, std::int64_t high) {
    return milliseconds(random.between(low, high));
  };
  ChaosSetting s;
  s.hosts = static_cast<std::size_t>(random.between(1, 5));
  s.dp_ranks = static_cast<std::size_t>(random.between(1, 3));
  s.requests = static_cast<int>(random.between(5, 50));
  s.horizon = ms(2000, 12000);
  s.network.delay_max = Nanoseconds{random.between(100'000, 20'000'000)};
  s.network.resend_chance = random.below(4) == 0 ? 0.1 : 0.0;
  s.network.silence_max = ms(1000, 15000);
  s.network.report_interval = ms(50, 200);
  s.network.report_timeout = ms(300, 1000);
  s.core.policy.kind = draw_policy(random);
  s.core.table.misses_max = static_cast<int>(random.between(1, 3));
  s.core.wait_max = ms(2000, 10000);
  s.core.seed = random.next();
  s.scheduler = {
      .pages = random.between(9, 40),
      .running_max = random.between(1, 8),
      .waiting_max = random.between(1, 16),
      .step_tokens_max = random.between(16, 256),
      .chunk_tokens_max = random.between(8, 256),
      .logit_rows_max = 16,
      .sequence_tokens_max = kSequenceTokensMax,
  };
  s.cost.fixed = ms(1, 20);
  if (random.below(3) != 0) draw_pairs(random, s);
  draw_gate(random, s);
  draw_registry(random, s);
  return s;
}

}  // namespace pleiad::sim
