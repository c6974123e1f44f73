#include "apps/hand_over_flags.h"

#include <algorithm>
#include <cctype>

#include <CLI/CLI.hpp>

namespace pleiad::apps {

void add_hand_over_flags(CLI::App& verb, HandOverFlags& flags) {
  verb.add_option(
          "--disaggregation-mode,--role",
          flags.mode,
          "both: whole requests; prefill: also prompts for decode workers; decode: also takes "
          "prompts "
          "over from them"
  )
      ->envname("ROLE_TYPE")
      ->capture_default_str();
  verb.add_option(
          "--disaggregation-transfer-backend",
          flags.transport,
          "How keys and values travel: auto, which is shared memory on one machine, or always tcp"
  )
      ->capture_default_str();
  verb.add_option(
          "--disaggregation-hold-timeout",
          flags.hold_timeout_seconds,
          "Seconds that a prefill worker holds a prompt for a peer that neither takes it nor hangs "
          "up"
  )
      ->capture_default_str();
}

Result<HandOverChoice> complete(const HandOverFlags& flags) {
  HandOverChoice choice;
  std::string mode = flags.mode;
  std::ranges::transform(mode, mode.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  // Other engines' words for both.
  const bool both = mode == "null" || mode == "none" || mode == "pdfusion";
  const auto role = api::parse_role(both ? "both" : mode);
  if (!role) {
    return invalid_input(
        "--disaggregation-mode {}: not one of both, prefill, decode (also env ROLE_TYPE)",
        flags.mode
    );
  }
  choice.role = *role;
  if (flags.transport != "auto" && flags.transport != "tcp") {
    return invalid_input(
        "--disaggregation-transfer-backend {}: not one of auto, tcp", flags.transport
    );
  }
  choice.share_memory = flags.transport != "tcp";
  constexpr double kSecondsMax = 86'400.0;
  if (!(flags.hold_timeout_seconds > 0.0 && flags.hold_timeout_seconds <= kSecondsMax)) {
    return invalid_input(
        "--disaggregation-hold-timeout must be above 0 and at most {}, got {}",
        kSecondsMax,
        flags.hold_timeout_seconds
    );
  }
  choice.lease = Nanoseconds{static_cast<std::int64_t>(flags.hold_timeout_seconds * 1e9)};
  return choice;
}

Result<void> check_role(api::Role role, const HandOverNeeds& needs) {
  if (role == api::Role::Both) return {};
  const std::string_view name = api::to_string(role);
  if (!needs.secret) {
    return invalid_input(
        "--disaggregation-mode {} needs the cluster's secret: --cluster-secret-file, or env "
        "PLEIAD_CLUSTER_SECRET",
        name
    );
  }
  if (needs.nodes > 1) {
    return unsupported(
        "--disaggregation-mode {} with --nnodes {}: hand-overs want all ranks in one process; use "
        "--nnodes 1, or --disaggregation-mode both",
        name,
        needs.nodes
    );
  }
  if (needs.gpu) {
    return unsupported(
        "--disaggregation-mode {} with --device cuda: hand-overs want the KV cache in host memory; "
        "use --device cpu, or --disaggregation-mode both",
        name
    );
  }
  return {};
}

}  // namespace pleiad::apps
