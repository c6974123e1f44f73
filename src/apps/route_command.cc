#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "apps/commands.h"
#include "apps/drain_wait.h"
#include "apps/flag_values.h"
#include "apps/http_flags.h"
#include "apps/route_instance.h"
#include "apps/secrets.h"
#include "base/log.h"

namespace pleiad::apps {
namespace {

struct RouteFlags {
  RouteSettings settings;
  std::string model;
  std::string policy = "cache_aware";
  std::string key_file;
  std::string secret_file;
  std::string admin_key_file;
  std::string chat_template;
  std::string generation_config = "auto";
  std::string log_level = "info";
  bool apart = false;
  double drain_timeout_seconds = 30.0;
};

HttpFlags http_flags(RouteFlags& flags) {
  auto& s = flags.settings;
  return {
      .host = s.host,
      .port = s.port,
      .api_keys = s.api_keys,
      .key_file = flags.key_file,
      .allow_unauthenticated = s.allow_unauthenticated,
      .served_names = s.served_names,
      .drain_timeout_seconds = flags.drain_timeout_seconds,
      .log_level = flags.log_level,
  };
}

void add_worker_flags(CLI::App& verb, RouteFlags& flags) {
  RouteSettings& s = flags.settings;
  verb.add_option(
      "--worker-urls",
      s.workers,
      "Workers of any role, as http://host:port; others may register themselves"
  );
  verb.add_option(
      "--prefill", s.prefill_workers, "Workers that compute prompts for those of --decode"
  );
  verb.add_option("--decode", s.decode_workers, "Workers that go on with prompts of others");
  verb.add_flag(
      "--pd-disaggregation", flags.apart, "Needs not be said: workers of both roles are paired"
  );
  verb.add_option(
          "--prefill-threshold",
          s.router.core.prefill_tokens_min,
          "Prompts with fewer tokens to compute stay with the decode worker"
  )
      ->capture_default_str();
  verb.add_option(
      "--policy-file",
      s.policy_file,
      "YAML or JSON file of policy, priority classes and keys with their limits; read anew when it "
      "changes and on SIGHUP"
  );
  verb.add_option(
      "--admin-key-file",
      flags.admin_key_file,
      "File with the keys of the admin routes, one a line (also env PLEIAD_ADMIN_KEY); none: there "
      "are no such routes"
  );
  verb.add_option(
      "--cluster-secret-file",
      flags.secret_file,
      "File with the secret that workers know too (also env PLEIAD_CLUSTER_SECRET)"
  );
  verb.add_option(
          "--policy", flags.policy, "cache_aware, power_of_two, least_tokens, round_robin or random"
  )
      ->capture_default_str();
  verb.add_option(
          "--balance-rel-threshold",
          s.router.core.policy.balance_relative,
          "A cached prefix counts while its rank has at most this many times the least busy one's "
          "tokens"
  )
      ->capture_default_str();
  verb.add_option(
          "--balance-abs-threshold", s.router.core.policy.balance_tokens, "... plus so many tokens"
  )
      ->capture_default_str();
  verb.add_option("--max-concurrent-requests", s.router.open_max, "Requests at once; beyond: 429")
      ->capture_default_str();
}

Result<void> check_workers(const RouteFlags& flags) {
  const RouteSettings& s = flags.settings;
  if (s.router.core.prefill_tokens_min < 1) {
    return invalid_input(
        "--prefill-threshold must be at least 1, got {}", s.router.core.prefill_tokens_min
    );
  }
  return {};
}

Result<void> complete_settings(RouteFlags& flags) {
  set_log_level(log_level(flags.log_level));
  RouteSettings& s = flags.settings;
  s.text.model = flags.model;
  if (!flags.chat_template.empty()) s.text.chat_template = flags.chat_template;
  s.ignore_generation_config = flags.generation_config == "none";
  PLEIAD_TRY(policy, router::parse_policy(flags.policy));
  s.router.core.policy.kind = policy;
  if (!(s.router.core.policy.balance_relative >= 1.0)) {
    return invalid_input(
        "--balance-rel-threshold must be at least 1, got {}", s.router.core.policy.balance_relative
    );
  }
  if (s.router.core.policy.balance_tokens < 0) {
    return invalid_input(
        "--balance-abs-threshold must be at least 0, got {}", s.router.core.policy.balance_tokens
    );
  }
  PLEIAD_TRY(check_workers(flags));
  PLEIAD_TRY(secret, read_cluster_secret(flags.secret_file));
  s.router.secret = secret;
  PLEIAD_TRY(read_admin_keys(flags.admin_key_file, s.admin_keys));
  return read_api_keys(flags.key_file, s.api_keys);
}

int route(RouteFlags flags) {
  const sigset_t signals = block_end_and_reload_signals();
  if (const auto complete = complete_settings(flags); !complete.ok()) {
    fmt::print(stderr, "pleiad route: {}\n", complete.error().message);
    return 2;
  }
  const RouteSettings& s = flags.settings;
  const std::size_t workers = s.workers.size() + s.prefill_workers.size() + s.decode_workers.size();
  auto instance = RouteInstance::start(std::move(flags.settings));
  if (!instance.ok()) {
    fmt::print(stderr, "pleiad route: {}\n", instance.error().message);
    return 1;
  }
  fmt::print(
      "pleiad {}: a router of {} workers, policy {}\n  listening on {}\n",
      PLEIAD_VERSION,
      workers,
      flags.policy,
      (*instance)->url()
  );
  std::fflush(stdout);
  wait_and_drain(
      signals,
      flags.drain_timeout_seconds,
      {.drain = [&](net::Task on_drained) { (*instance)->drain(std::move(on_drained)); },
       .reload = [&] { (*instance)->reload_policy(); }}
  );
  return 0;
}

}  // namespace

void add_route_command(CLI::App& app, Command& chosen) {
  CLI::App* verb = app.add_subcommand("route", "Serve the OpenAI API in front of workers");
  // Shared by the parser, which fills it, and the command, which runs after.
  const auto flags = std::make_shared<RouteFlags>();
  verb->add_option("model,--model", flags->model, "Model folder: tokenizer and chat template")
      ->required();
  verb->add_option("--chat-template", flags->chat_template, "File that replaces the checkpoint's");
  verb->add_option("--generation-config", flags->generation_config, "auto, or none")
      ->capture_default_str();
  add_http_flags(*verb, http_flags(*flags));
  add_worker_flags(*verb, *flags);
  verb->callback([flags, &chosen] { chosen = [flags] { return route(*flags); }; });
}

}  // namespace pleiad::apps
