#include "apps/group_flags.h"

#include <CLI/CLI.hpp>

#include "plan/ep_settings_text.h"

namespace pleiad::apps {

void add_size_flags(CLI::App& verb, GroupFlags& flags) {
  plan::LayoutRequest& layout = flags.layout;
  verb.add_option(
          "--ep-size,--ep,--moe-ep-size",
          layout.ep_size,
          "Parts that the experts are divided into; unset: all ranks"
  )
      ->envname("EP_SIZE");
  verb.add_option(
          "--dp-size,--dp,--data-parallel-size", layout.dp_size, "Ranks with requests of their own"
  )
      ->envname("DP_SIZE");
  verb.add_option(
          "--tp-size,--tp,--tensor-parallel-size", layout.tp_size, "Ranks that share one attention"
  )
      ->envname("TP_SIZE");
  verb.add_option(
      "--moe-tp-size,--moe-tp", layout.moe_tp_size, "Ranks that share each part of the experts"
  );
  verb.add_flag(
      "--enable-expert-parallel",
      flags.expert_parallel,
      "Divide experts over all ranks, as happens anyway"
  );
  verb.add_option("--nnodes", layout.nnodes, "Machines, with equal shares of the ranks")
      ->capture_default_str();
}

void add_ep_flags(CLI::App& verb, GroupFlags& flags) {
  plan::EpSettings& settings = flags.settings;
  verb.add_option(
          "--ep-level,--expert-parallel-degree",
          flags.level,
          "1: AllGather, 2: AllToAll, auto: chosen in each step"
  )
      ->capture_default_str();
  verb.add_option(
      "--moe-a2a-backend,--all2all-backend",
      flags.backend,
      "The same in other words: none or allgather_reducescatter is 1, anything else 2"
  );
  verb.add_flag(
      "--enable-init-routing-cutoff",
      settings.enable_init_routing_cutoff,
      "Level 1: bound the routed rows that a rank holds at once"
  );
  verb.add_option(
          "--topk-scaling-factor", settings.topk_scaling_factor, "Their share, above 0 up to 1"
  )
      ->capture_default_str();
  verb.add_option(
      "--alltoall-ep-buffer-scale-factors",
      flags.buffer_scales,
      "Level 2: [[tokens, factor], ...], tokens falling to 0"
  );
  verb.add_flag(
      "--enable-two-batch-overlap,--enable-dbo",
      settings.two_batch_overlap,
      "Run a step's rows in two halves, so that one computes while the other travels"
  );
  verb.add_option(
          "--two-batch-token-threshold,--dbo-decode-token-threshold",
          settings.two_batch_tokens_min,
          "Tokens of one rank from which steps are halved"
  )
      ->capture_default_str();
  verb.add_option(
          "--routing",
          flags.routing,
          "gate: the checkpoint's; hash: by token id, for models trained so"
  )
      ->check(CLI::IsMember({"gate", "hash"}))
      ->capture_default_str();
}

Result<GroupChoice> complete(const GroupFlags& flags) {
  GroupChoice out{.layout = {}, .settings = flags.settings};
  PLEIAD_TRY(layout, plan::plan_layout(flags.layout));
  out.layout = layout;
  if (flags.expert_parallel && layout.ep_size != layout.ranks()) {
    return invalid_input(
        "--enable-expert-parallel divides experts over all {} ranks, --ep-size says {}; leave one "
        "of "
        "them out",
        layout.ranks(),
        layout.ep_size
    );
  }
  PLEIAD_TRY(level, plan::parse_ep_level(flags.level));
  out.settings.level = level;
  if (!flags.backend.empty()) {
    const bool gathers = flags.backend == "none" || flags.backend == "allgather_reducescatter";
    const auto said = gathers ? plan::EpLevel::AllGather : plan::EpLevel::AllToAll;
    if (level != plan::EpLevel::Auto && level != said) {
      return invalid_input(
          "--moe-a2a-backend {} means --ep-level {}, which says {}; leave one of them out",
          flags.backend,
          gathers ? 1 : 2,
          flags.level
      );
    }
    out.settings.level = said;
  }
  if (!flags.buffer_scales.empty()) {
    PLEIAD_TRY(scales, plan::parse_buffer_scales(flags.buffer_scales));
    out.settings.alltoall_ep_buffer_scale_factors = scales;
  }
  out.settings.routing = flags.routing == "hash" ? plan::Routing::Hash : plan::Routing::Gate;
  PLEIAD_TRY(plan::validate(out.settings));
  return out;
}

}  // namespace pleiad::apps
