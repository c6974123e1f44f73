#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "apps/commands.h"
#include "apps/flag_values.h"
#include "apps/group_flags.h"
#include "apps/model_facts_reader.h"
#include "device/buffer.h"
#include "plan/layout_report.h"

namespace pleiad::apps {
namespace {

struct PlanLayoutFlags {
  ModelFactsRequest facts;
  std::string model;
  std::string dtype = "auto";
  GroupFlags group;
  std::int64_t device_memory_bytes = 0;
  double memory_fraction = 0.8;
  bool json = false;
};

void add_machine_flags(CLI::App& verb, PlanLayoutFlags& flags) {
  verb.add_option(
          "--device-memory",
          flags.device_memory_bytes,
          "Bytes of one rank's memory (suffixes mb, gb); 0: this machine's free memory, shared by "
          "the ranks of a node"
  )
      ->transform(CLI::AsSizeValue(false))
      ->default_str("0");
  verb.add_option(
          "--mem-fraction-static,--gpu-memory-utilization",
          flags.memory_fraction,
          "Share of it for weights, buffers, scratch and KV cache, 0 to 1"
  )
      ->capture_default_str();
  verb.add_option(
          "--max-num-batched-tokens", flags.facts.step_rows, "Tokens of one dp rank in one step"
  )
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24U))
      ->capture_default_str();
  verb.add_option(
          "--max-num-seqs,--max-running-requests",
          flags.facts.logit_rows,
          "Sequences of one dp rank in one step"
  )
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24U))
      ->capture_default_str();
  verb.add_option("--dtype", flags.dtype, "Compute type")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}))
      ->capture_default_str();
}

Result<plan::LayoutReport> plan_report(PlanLayoutFlags& flags) {
  flags.facts.model = flags.model;
  flags.facts.dtype = compute_choice(flags.dtype);
  PLEIAD_TRY(group, complete(flags.group));
  PLEIAD_TRY(facts, read_model_facts(flags.facts));
  if (flags.device_memory_bytes == 0) {
    flags.device_memory_bytes =
        static_cast<std::int64_t>(device::memory_available_bytes()) / group.layout.ranks_per_node();
  }
  return plan::report_layout({
      .facts = facts,
      .layout = group.layout,
      .settings = group.settings,
      .device_memory_bytes = flags.device_memory_bytes,
      .memory_fraction = flags.memory_fraction,
      .step_rows = flags.facts.step_rows,
      .kv_page_tokens = model::kPageTokens,
  });
}

// 0 when the layout keeps all rules and fits, 1 otherwise.
int print_layout(PlanLayoutFlags flags) {
  const auto report = plan_report(flags);
  if (!report.ok()) {
    fmt::print(stderr, "pleiad plan layout: {}\n", report.error().message);
    return 1;
  }
  fmt::print("{}", flags.json ? plan::to_json(*report).dump() + "\n" : plan::to_text(*report));
  return report->fits() ? 0 : 1;
}

}  // namespace

void add_plan_command(CLI::App& app, Command& chosen) {
  CLI::App* plan = app.add_subcommand("plan", "Tell what a service would need, before it runs");
  plan->require_subcommand(1);
  CLI::App* layout =
      plan->add_subcommand("layout", "Bytes per rank and traffic per token of a parallel layout");
  // Shared by the parser, which fills it, and the command, which runs after.
  auto flags = std::make_shared<PlanLayoutFlags>();
  layout->add_option("model", flags->model, "Hugging Face model folder")->required();
  add_size_flags(*layout, flags->group);
  add_ep_flags(*layout, flags->group);
  add_machine_flags(*layout, *flags);
  layout->add_flag("--json", flags->json, "Print JSON");
  layout->callback([&chosen, flags] { chosen = [flags] { return print_layout(*flags); }; });
}

}  // namespace pleiad::apps
