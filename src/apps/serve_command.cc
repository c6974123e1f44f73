#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "apps/commands.h"
#include "apps/drain_wait.h"
#include "apps/flag_values.h"
#include "apps/group_flags.h"
#include "apps/hand_over_flags.h"
#include "apps/http_flags.h"
#include "apps/secrets.h"
#include "apps/serve_instance.h"
#include "apps/serve_node.h"
#include "base/log.h"

namespace pleiad::apps {
namespace {

struct ServeFlags {
  ServeSettings settings;
  std::string model;
  std::string dtype = "auto";
  std::string device = "auto";
  std::string load_format = "auto";
  std::string isa = "auto";
  std::string config;  // taken out of the arguments before they are parsed; here for --help
  std::string key_file;
  std::string chat_template;
  std::string generation_config = "auto";
  std::string log_level = "info";
  GroupFlags group;
  HandOverFlags hand_over;
  std::string secret_file;
  double step_timeout_seconds = 60.0;
  bool no_checksums = false;
  bool no_prefix_cache = false;
  double drain_timeout_seconds = 30.0;
};

HttpFlags http_flags(ServeFlags& flags) {
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

void add_model_flags(CLI::App& verb, ServeFlags& flags) {
  engine::LoadSettings& load = flags.settings.load;
  verb.add_option("model,--model", flags.model, "Hugging Face model folder")->required();
  verb.add_option(
      "--config",
      flags.config,
      "YAML or JSON file of these flags, or MindIE's ModelDeployConfig; what stands here wins"
  );
  verb.add_option("--dtype", flags.dtype, "Compute type")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}))
      ->capture_default_str();
  verb.add_option("--device", flags.device, "What computes: auto, cpu, cuda, cuda:INDEX")
      ->capture_default_str();
  verb.add_option(
          "--load-format",
          flags.load_format,
          "Weights: the folder's, or noise in the shapes of its config.json, for trials (dummy)"
  )
      ->check(CLI::IsMember({"auto", "safetensors", "dummy"}))
      ->capture_default_str();
  verb.add_flag(
      "--skip-tokenizer-init",
      flags.settings.text.skip_tokenizer,
      "Token ids in, token ids out: no tokenizer, no chat"
  );
  verb.add_option(
      "--chat-template", flags.chat_template, "Jinja file instead of the checkpoint's template"
  );
  verb.add_option(
          "--generation-config",
          flags.generation_config,
          "Sampling defaults: of the checkpoint, or neutral"
  )
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
  verb.add_option("--threads", load.threads, "Compute threads; 0: one per processor")
      ->capture_default_str();
  verb.add_option("--cpu-isa", flags.isa, "Instruction set of the kernels")
      ->check(CLI::IsMember({"auto", "portable", "avx2", "avx512", "avx512_bf16"}))
      ->capture_default_str();
}

void add_register_flags(CLI::App& verb, ServeFlags& flags) {
  verb.add_option(
          "--register",
          flags.settings.routers,
          "Routers that are told of this worker, as http://host:port; several with commas"
  )
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option(
          "--register-url", flags.settings.register_url, "How those routers reach this worker"
  )
      ->default_str("as it listens");
}

void add_limit_flags(CLI::App& verb, ServeFlags& flags) {
  engine::LoadSettings& load = flags.settings.load;
  verb.add_option(
          "--max-model-len,--context-length",
          load.max_model_len,
          "Longest prompt + output, in tokens; 0: what checkpoint and memory allow"
  )
      ->capture_default_str();
  verb.add_option(
          "--max-model-len-limit",
          load.max_model_len_limit,
          "At most this many; unlike --max-model-len it may be more than the checkpoint allows"
  )
      ->capture_default_str();
  verb.add_option(
          "--max-num-seqs,--max-running-requests", load.max_num_seqs, "Sequences in one step"
  )
      ->capture_default_str();
  verb.add_option("--max-num-batched-tokens", load.max_num_batched_tokens, "Tokens in one step")
      ->capture_default_str();
  verb.add_option(
          "--chunked-prefill-size",
          load.chunked_prefill_size,
          "Prompt tokens of one sequence in one step"
  )
      ->capture_default_str();
  verb.add_option(
          "--max-waiting",
          load.max_waiting,
          "Requests queued beyond --max-num-seqs; more are answered 429"
  )
      ->capture_default_str();
  verb.add_option(
          "--mem-fraction-static,--gpu-memory-utilization",
          load.mem_fraction_static,
          "Share of available memory for weights, scratch and KV cache, 0 to 1"
  )
      ->capture_default_str();
  verb.add_option(
          "--kv-cache-bytes",
          load.kv_cache_bytes,
          "Bytes of KV cache (suffixes kb, mb, gb); 0: what the share leaves"
  )
      ->transform(CLI::AsSizeValue(false))
      ->default_str("0");
  verb.add_flag(
      "--no-enable-prefix-caching", flags.no_prefix_cache, "Compute every prompt from its start"
  );
}

void add_node_flags(CLI::App& verb, ServeFlags& flags) {
  ServeSettings& s = flags.settings;
  verb.add_option(
          "--node-rank", flags.group.layout.node_rank, "This machine's number; only 0 speaks HTTP"
  )
      ->capture_default_str();
  verb.add_option(
      "--dist-init-addr,--master-addr",
      s.dist_init_addr,
      "HOST:PORT where node 0 listens for the others"
  );
  verb.add_option(
      "--cluster-secret-file",
      flags.secret_file,
      "File with the secret that all nodes share (also env PLEIAD_CLUSTER_SECRET)"
  );
  verb.add_option(
          "--step-timeout",
          flags.step_timeout_seconds,
          "Seconds that a rank waits for another before the group is given up"
  )
      ->capture_default_str();
  verb.add_option(
      "--comm-transports",
      s.ucx.transports,
      "UCX transports between nodes, such as tcp; unset: the best"
  );
  verb.add_option(
      "--comm-interface",
      s.ucx.interface,
      "Network interface between nodes, such as eth0; unset: any"
  );
  verb.add_option(
          "--comm-spin",
          s.ucx.spin,
          "Rounds of looking for a message before sleeping; 0: sleep at once"
  )
      ->capture_default_str();
  verb.add_flag("--no-comm-checksums", flags.no_checksums, "Send between nodes without checksums");
  verb.add_flag(
      "--force-routing",
      s.load.force_routing,
      "Let --routing hash serve a checkpoint that was trained with a gate"
  );
}

Result<void> complete_settings(ServeFlags& flags) {
  set_log_level(log_level(flags.log_level));
  ServeSettings& s = flags.settings;
  s.load.model = flags.model;
  s.load.dtype = compute_choice(flags.dtype);
  s.load.dummy_weights = flags.load_format == "dummy";
  s.text.tokenizer_may_lack = s.load.dummy_weights;
  s.load.prefix_cache = !flags.no_prefix_cache;
  s.ignore_generation_config = flags.generation_config == "none";
  PLEIAD_TRY(group, complete(flags.group));
  s.load.layout = group.layout;
  s.load.ep = group.settings;
  PLEIAD_TRY(gpu, device_choice(flags.device, group.layout.ranks()));
  s.load.gpu = gpu;
  s.ucx.checksums = !flags.no_checksums;
  if (!(flags.step_timeout_seconds > 0.0)) {
    return invalid_input("--step-timeout must be above 0, got {}", flags.step_timeout_seconds);
  }
  s.step_timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(flags.step_timeout_seconds * 1e3) + 1);
  PLEIAD_TRY(secret, read_cluster_secret(flags.secret_file));
  s.cluster_secret = secret;
  PLEIAD_TRY(hand_over, complete(flags.hand_over));
  s.hand_over = hand_over;
  if (!flags.chat_template.empty()) s.text.chat_template = flags.chat_template;
  if (flags.isa != "auto") {
    const auto isa = device::parse_cpu_isa(flags.isa);
    if (*isa > device::detect_cpu_isa()) {
      return unsupported(
          "--cpu-isa {} is beyond this processor; use at most {}",
          flags.isa,
          device::to_string(device::detect_cpu_isa())
      );
    }
    s.load.isa = isa;
  }
  return read_api_keys(flags.key_file, s.api_keys);
}

// Tells of large loads a few times a second at most; small ones pass unseen.
void show_progress(std::size_t done, std::size_t total) {
  constexpr std::size_t kWorthTelling = std::size_t{1} << 30U;
  if (total < kWorthTelling) return;
  std::fprintf(
      stderr,
      "\rpacking weights: %zu of %zu MiB%s",
      done >> 20U,
      total >> 20U,
      done >= total ? "\n" : ""
  );
}

void print_phases(const StartReport& r) {
  fmt::print(
      "  read {:.3f} s, weights {:.3f} s, prepare {:.3f} s, KV pages {:.3f} s, record steps {:.3f} "
      "s, ready {:.3f} s\n",
      r.read_seconds,
      r.pack_seconds,
      r.prepare_seconds,
      r.cache_seconds,
      r.record_seconds,
      r.ready_seconds
  );
  const model::LoadPhases& p = r.phases;
  if (p.readers == 0) return;
  fmt::print(
      "  weights: {:.2f} GB in {:.3f} s, {:.1f} GB/s by {} readers; of each reading {:.3f} s, "
      "packing {:.3f} s, waiting for copies {:.3f} s\n",
      static_cast<double>(p.bytes) * 1e-9,
      p.total_seconds,
      static_cast<double>(p.bytes) * 1e-9 / std::max(p.total_seconds, 1e-9),
      p.readers,
      p.read_seconds,
      p.pack_seconds,
      p.waited_seconds
  );
}

void print_report(std::string_view name, const StartReport& r) {
  constexpr double kMib = 1024.0 * 1024.0;
  const auto mib = [](std::size_t bytes) { return static_cast<double>(bytes) / kMib; };
  fmt::print(
      "pleiad {}: {} ({}), {} on {}, {} threads a rank\n",
      PLEIAD_VERSION,
      name,
      r.architecture,
      r.compute,
      r.isa,
      r.threads
  );
  if (r.dummy_weights)
    fmt::print("  --load-format dummy: the weights are noise, and so are answers\n");
  if (r.token_ids_only) {
    fmt::print("  no tokenizer: prompts are token ids, answers are token ids, no chat\n");
  }
  if (r.layout.ranks() > 1) {
    const plan::RankRange here = r.layout.ranks_of_node(r.layout.node_rank);
    fmt::print(
        "  {} ranks: dp_size {}, tp_size {}, ep_size {}, moe_tp_size {}; node {} of {} holds ranks "
        "{} to {}\n",
        r.layout.ranks(),
        r.layout.dp_size,
        r.layout.tp_size,
        r.layout.ep_size,
        r.layout.moe_tp_size,
        r.layout.node_rank,
        r.layout.nnodes,
        here.first,
        here.first + here.count - 1
    );
  }
  print_phases(r);
  fmt::print(
      "  weights {:.1f} MiB, scratch {:.1f} MiB ({:.1f} without sharing), KV cache {:.1f} MiB in "
      "{} pages a rank, context {} tokens\n",
      mib(r.weight_bytes),
      mib(r.scratch.planned),
      mib(r.scratch.naive),
      mib(r.kv_bytes),
      r.pages,
      r.model_tokens
  );
  std::fflush(stdout);
}

// Starts the instance; a signal meanwhile ends a wait for other nodes.
Result<std::unique_ptr<ServeInstance>> start_http(ServeSettings settings, const sigset_t& signals) {
  std::stop_source stop;
  std::thread watch([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    if (signal != SIGUSR1) stop.request_stop();
  });
  auto instance = ServeInstance::start(std::move(settings), stop.get_token());
  kill(getpid(), SIGUSR1);
  watch.join();
  if (!stop.stop_requested()) return instance;
  return error(ErrorKind::Cancelled, "stopped while starting");
}

int serve_http(ServeFlags flags, const sigset_t& signals) {
  auto instance = start_http(std::move(flags.settings), signals);
  if (!instance.ok()) {
    if (instance.error().kind == ErrorKind::Cancelled) return 0;
    fmt::print(stderr, "pleiad serve: {}\n", instance.error().message);
    return 1;
  }
  print_report((*instance)->model_name(), (*instance)->report());
  fmt::print("  listening on {}\n", (*instance)->url());
  std::fflush(stdout);
  wait_and_drain(signals, flags.drain_timeout_seconds, {.drain = [&](net::Task on_drained) {
                   (*instance)->drain(std::move(on_drained));
                 }});
  return 0;
}

// Until a signal, or until node 0 refuses this node.
int serve_node(const ServeFlags& flags, const sigset_t& signals) {
  auto started = ServeNode::start(flags.settings);
  if (!started.ok()) {
    fmt::print(stderr, "pleiad serve: {}\n", started.error().message);
    return 1;
  }
  ServeNode& node = **started;
  print_report(flags.model, node.report());
  Result<void> served;
  std::thread thread([&] {
    served = node.run();
    if (!served.ok()) kill(getpid(), SIGUSR1);
  });
  int signal = 0;
  sigwait(&signals, &signal);
  node.stop();
  thread.join();
  if (served.ok()) return 0;
  fmt::print(stderr, "pleiad serve: {}\n", served.error().message);
  return 1;
}

int serve(ServeFlags flags) {
  const sigset_t signals = block_end_signals();
  flags.settings.load.progress = show_progress;
  if (const auto complete = complete_settings(flags); !complete.ok()) {
    fmt::print(stderr, "pleiad serve: {}\n", complete.error().message);
    return 2;
  }
  const bool speaks_http = flags.settings.load.layout.node_rank == 0;
  return speaks_http ? serve_http(std::move(flags), signals) : serve_node(flags, signals);
}

}  // namespace

void add_serve_command(CLI::App& app, Command& chosen) {
  CLI::App* verb = app.add_subcommand("serve", "Serve a model over the OpenAI API");
  // Shared by the parser, which fills it, and the command, which runs after.
  auto flags = std::make_shared<ServeFlags>();
  // A flag of a --config file may stand again on the command line, which comes later.
  verb->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_model_flags(*verb, *flags);
  add_http_flags(*verb, http_flags(*flags));
  add_limit_flags(*verb, *flags);
  add_size_flags(*verb, flags->group);
  add_ep_flags(*verb, flags->group);
  add_node_flags(*verb, *flags);
  add_register_flags(*verb, *flags);
  add_hand_over_flags(*verb, flags->hand_over);
  verb->callback([&chosen, flags] { chosen = [flags] { return serve(*flags); }; });
}

}  // namespace pleiad::apps
