#include "tests/service/scenario.h"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/core.h>

#include "base/random.h"

namespace pleiad::service {
namespace {

using std::chrono::milliseconds;

struct ModelChoice {
  const char* folder;
  std::int64_t vocabulary;
  // One token of all layers takes about so much.
  std::size_t kv_bytes_per_token;
};

// Latents and heads of keys and values; the last one is drawn less often, as it takes longer.
constexpr ModelChoice kModels[] = {
    {"tests/golden/deepseek_v2", 512, 600},
    {"tests/golden/qwen3_moe", 512, 800},
    {"tests/golden/deepseek_v3", 512, 600},
    {"tests/golden/gpt_oss", 512, 1100},
    {"tests/golden/kimi_k2", 512, 600},
    {"tests/golden/glm4_moe", 512, 800},
    {"tests/golden/mixtral", 512, 800},
    {"models/fable", 4096, 1300},
};

constexpr plan::ParallelLayout kLayouts[] = {
    {.tp_size = 1, .dp_size = 1, .ep_size = 1, .moe_tp_size = 1},
    {.tp_size = 1, .dp_size = 2, .ep_size = 2, .moe_tp_size = 1},
    {.tp_size = 2, .dp_size = 1, .ep_size = 2, .moe_tp_size = 1},
    {.tp_size = 2, .dp_size = 1, .ep_size = 1, .moe_tp_size = 2},
    {.tp_size = 1, .dp_size = 4, .ep_size = 4, .moe_tp_size = 1},
    {.tp_size = 2, .dp_size = 2, .ep_size = 4, .moe_tp_size = 1},
};

constexpr router::PolicyKind kPolicies[] = {
    router::PolicyKind::CacheAware,
    router::PolicyKind::PowerOfTwo,
    router::PolicyKind::LeastTokens,
    router::PolicyKind::RoundRobin,
    router::PolicyKind::Random,
};

template <typename T>
const T& pick(Random& random, std::span<const T> from) {
  return from[random.below(from.size())];
}

bool one_in(Random& random, std::uint64_t count) {
  return random.below(count) == 0;
}

std::vector<TokenId> draw_tokens(Random& random, std::size_t count, std::int64_t vocabulary) {
  std::vector<TokenId> out(count);
  for (TokenId& token : out)
    token = static_cast<TokenId>(6 + random.below(static_cast<std::uint64_t>(vocabulary - 6)));
  return out;
}

WorkerSettings draw_worker(Random& random, const ModelChoice& model, api::Role role) {
  const std::int64_t pages = random.between(12, 40);  // of each rank
  return {
      .model = std::filesystem::path(PLEIAD_SOURCE_DIR) / model.folder,
      .role = role,
      .layout = pick(random, std::span<const plan::ParallelLayout>(kLayouts)),
      .share_memory = !one_in(random, 3),
      .running_max = random.between(2, 8),
      .step_tokens_max = random.between(16, 160),
      .kv_bytes_per_rank = static_cast<std::size_t>(pages * 64) * model.kv_bytes_per_token};
}

Json body_of(Random& random, const std::vector<TokenId>& prompt, bool long_answer) {
  JsonArray ids;
  for (const TokenId token : prompt)
    ids.emplace_back(static_cast<std::int64_t>(token));
  Json body;
  body.set("prompt", std::move(ids));
  body.set("max_tokens", random.between(1, long_answer ? 60 : 12));
  body.set("ignore_eos", !one_in(random, 4));
  body.set("return_token_ids", true);
  body.set("return_tokens_as_token_ids", true);
  if (!one_in(random, 3)) body.set("logprobs", random.between(0, 3));
  if (one_in(random, 2)) {
    body.set("temperature", 0);
  } else {
    body.set("temperature", 0.9);
    body.set("top_p", 0.95);
    body.set("seed", static_cast<std::int64_t>(random.below(1U << 20U)));
  }
  if (one_in(random, 4)) body.set("frequency_penalty", 0.5);
  return body;
}

// Prompts that begin alike, and end each in its own way.
std::vector<Question> draw_questions(Random& random, const ModelChoice& model) {
  const std::vector<TokenId> shared[] = {
      draw_tokens(random, 64 + random.below(200), model.vocabulary),
      draw_tokens(random, 1 + random.below(100), model.vocabulary)};
  std::vector<Question> out(4 + random.below(9));
  const std::int64_t span_ms = random.between(0, 60);
  for (Question& question : out) {
    if (!one_in(random, 3))
      question.prompt = pick(random, std::span<const std::vector<TokenId>>(shared));
    const auto own = draw_tokens(random, 4 + random.below(100), model.vocabulary);
    question.prompt.insert(question.prompt.end(), own.begin(), own.end());
    question.body = body_of(random, question.prompt, one_in(random, 2));
    question.stream = one_in(random, 2);
    question.at = milliseconds(random.between(0, span_ms));
  }
  return out;
}

// How often a phase comes up, roughly: a trouble far behind the end never happens.
int draw_nth(Random& random, Phase phase, std::size_t questions) {
  const auto few = static_cast<std::int64_t>(questions);
  const std::int64_t times = phase == Phase::Decode ? 6 * few : few;
  return static_cast<int>(random.between(0, times));
}

Trouble draw_trouble(Random& random, std::size_t questions) {
  Trouble trouble{
      .phase = static_cast<Phase>(random.below(kPhases)),
      .action = static_cast<Action>(random.below(kActions)),
      .pause = milliseconds(random.between(1, 150))};
  trouble.nth = draw_nth(random, trouble.phase, questions);
  // Clients leave in every phase of their own; the others take whoever is there.
  if (trouble.action == Action::Cancel) {
    trouble.request = random.below(questions);
    trouble.nth = trouble.phase == Phase::Decode ? static_cast<int>(random.below(10)) : 0;
  }
  // Some stand still for longer than the router bears.
  if (trouble.action == Action::Freeze && one_in(random, 6)) trouble.pause = milliseconds(1500);
  return trouble;
}

std::vector<Trouble> draw_troubles(Random& random, std::size_t questions) {
  std::vector<Trouble> out;
  if (one_in(random, 12)) return out;
  const std::uint64_t count = 1 + random.below(5);
  for (std::uint64_t i = 0; i < count; ++i) {
    out.push_back(draw_trouble(random, questions));
  }
  if (one_in(random, 6)) {
    out.push_back(
        {.phase = one_in(random, 2) ? Phase::Prefill : static_cast<Phase>(random.below(kPhases)),
         .action = Action::Kill,
         .request = random.below(questions),
         .always = true,
         .pause = milliseconds(random.between(1, 50))}
    );
  }
  return out;
}

}  // namespace

const char* to_string(Action action) {
  switch (action) {
    case Action::Kill:
      return "kill";
    case Action::Freeze:
      return "freeze";
    case Action::Cancel:
      return "cancel";
  }
  return "";
}

std::string Scenario::story() const {
  std::string out = model + ":";
  for (const WorkerSettings& worker : workers) {
    out += fmt::format(
        " {} tp{} dp{} ep{}{},",
        api::to_string(worker.role),
        worker.layout.tp_size,
        worker.layout.dp_size,
        worker.layout.ep_size,
        worker.share_memory ? "" : " tcp"
    );
  }
  out += fmt::format(" {}, {} questions;", router::to_string(policy), questions.size());
  for (const Trouble& trouble : troubles) {
    out += fmt::format(
        " {} at {} {}", to_string(trouble.action), to_string(trouble.phase), trouble.nth
    );
    if (trouble.request) out += fmt::format(" of {}", *trouble.request);
    if (trouble.always) out += " always";
    if (trouble.action != Action::Cancel) out += fmt::format(" for {} ms", trouble.pause.count());
    out += ",";
  }
  out.pop_back();
  return out;
}

Scenario draw_scenario(std::uint64_t seed) {
  Random random(seed);
  const std::size_t models = one_in(random, 4) ? std::size(kModels) : std::size(kModels) - 1;
  const ModelChoice& model = kModels[random.below(models)];
  Scenario out{.model = model.folder};
  const std::uint64_t prefill = 1 + random.below(3);
  const std::uint64_t decode = 1 + random.below(3);
  for (std::uint64_t i = 0; i < prefill + decode; ++i) {
    const api::Role role = i < prefill ? api::Role::Prefill : api::Role::Decode;
    out.workers.push_back(draw_worker(random, model, role));
  }
  out.policy = pick(random, std::span<const router::PolicyKind>(kPolicies));
  out.prefill_tokens_min = one_in(random, 4) ? 100 : 1;
  out.questions = draw_questions(random, model);
  out.troubles = draw_troubles(random, out.questions.size());
  return out;
}

}  // namespace pleiad::service
