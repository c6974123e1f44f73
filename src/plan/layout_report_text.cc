// The two ways to write a LayoutReport.
#include <string_view>

#include <fmt/core.h>

#include "plan/ep_settings_text.h"
#include "plan/layout_report.h"

namespace pleiad::plan {
namespace {

double real(std::int64_t value) {
  return static_cast<double>(value);
}

std::string heading(const LayoutReport& report) {
  const ParallelLayout& layout = report.input.layout;
  const ModelFacts& facts = report.input.facts;
  std::string out = fmt::format(
      "{}: {} layers ({} with experts), {} experts, top-{}, hidden {}\n",
      facts.name,
      facts.layers,
      facts.moe_layers,
      facts.experts,
      facts.topk,
      facts.hidden
  );
  out += fmt::format(
      "{} rank{} on {} node{}: dp {} x tp {} = ep {} x moe_tp {}, ep_level {}\n",
      layout.ranks(),
      layout.ranks() == 1 ? "" : "s",
      layout.nnodes,
      layout.nnodes == 1 ? "" : "s",
      layout.dp_size,
      layout.tp_size,
      layout.ep_size,
      layout.moe_tp_size,
      to_string(report.input.settings.level)
  );
  return out;
}

std::string memory_text(const LayoutReport& report) {
  const RankBytes& rank = report.rank;
  const auto line = [](std::string_view name, std::int64_t bytes, std::string_view more) {
    return fmt::format("  {:<24}{:>12}{}\n", name, bytes_text(real(bytes)), more);
  };
  std::string out = "\nper rank\n";
  out += line("dense weights", rank.dense, "");
  out += line(
      "expert weights",
      rank.experts,
      fmt::format("   {} experts in each layer", report.experts_per_rank_max)
  );
  out += line("dispatch buffers", rank.dispatch_buffers, "");
  out += line("combine buffers", rank.combine_buffers, "");
  out += line("scratch", rank.scratch, "");
  out += line(
      "KV cache",
      rank.kv,
      fmt::format("   {} tokens, {} on all ranks", report.kv_tokens, report.kv_tokens_all)
  );
  out += line(
      "budget",
      report.budget_bytes,
      fmt::format(
          "   {} x {}",
          bytes_text(real(report.input.device_memory_bytes)),
          report.input.memory_fraction
      )
  );
  return out;
}

std::string traffic_text(const LayoutReport& report) {
  std::string out = fmt::format(
      "\nper token and layer     {:>10}{:>10}{:>12}{:>12}{:>12}\n",
      "rows out",
      "rows back",
      "sent",
      "returned",
      "together"
  );
  const auto line = [&out](std::string_view name, const LevelTraffic& traffic) {
    out += fmt::format(
        "  {:<22}{:>10.2f}{:>10.2f}{:>12}{:>12}{:>12}\n",
        name,
        traffic.rows_dispatched,
        traffic.rows_returned,
        bytes_text(traffic.bytes_dispatched),
        bytes_text(traffic.bytes_returned),
        bytes_text(traffic.bytes())
    );
  };
  line("level 1 (AllGather)", report.level1);
  line("level 2 (AllToAll)", report.level2);
  return out;
}

Json traffic_json(const LevelTraffic& traffic) {
  Json out;
  out.set("rows_dispatched", traffic.rows_dispatched);
  out.set("rows_returned", traffic.rows_returned);
  out.set("bytes_dispatched", traffic.bytes_dispatched);
  out.set("bytes_returned", traffic.bytes_returned);
  return out;
}

Json layout_json(const LayoutReport& report) {
  const ParallelLayout& layout = report.input.layout;
  Json out;
  out.set("ranks", layout.ranks());
  out.set("nnodes", layout.nnodes);
  out.set("dp_size", layout.dp_size);
  out.set("tp_size", layout.tp_size);
  out.set("ep_size", layout.ep_size);
  out.set("moe_tp_size", layout.moe_tp_size);
  out.set("ep_level", to_string(report.input.settings.level));
  out.set("experts_per_rank_min", report.experts_per_rank_min);
  out.set("experts_per_rank_max", report.experts_per_rank_max);
  return out;
}

Json rank_json(const LayoutReport& report) {
  const RankBytes& rank = report.rank;
  Json out;
  out.set("dense_bytes", rank.dense);
  out.set("expert_bytes", rank.experts);
  out.set("dispatch_buffer_bytes", rank.dispatch_buffers);
  out.set("combine_buffer_bytes", rank.combine_buffers);
  out.set("scratch_bytes", rank.scratch);
  out.set("kv_bytes", rank.kv);
  out.set("kv_tokens", report.kv_tokens);
  out.set("budget_bytes", report.budget_bytes);
  return out;
}

Json list_json(const std::vector<std::string>& texts) {
  JsonArray out;
  for (const std::string& text : texts) {
    out.emplace_back(text);
  }
  return out;
}

}  // namespace

std::string to_text(const LayoutReport& report) {
  std::string out = heading(report) + memory_text(report) + traffic_text(report) + "\n";
  for (const std::string& note : report.notes) {
    out += "note: " + note + "\n";
  }
  for (const std::string& refusal : report.refusals) {
    out += "refused: " + refusal + "\n";
  }
  if (report.fits()) out += "fits\n";
  return out;
}

Json to_json(const LayoutReport& report) {
  Json out;
  out.set("model", report.input.facts.name);
  out.set("fits", report.fits());
  out.set("layout", layout_json(report));
  out.set("rank", rank_json(report));
  out.set("kv_tokens_all_ranks", report.kv_tokens_all);
  Json levels;
  levels.set("level1", traffic_json(report.level1));
  levels.set("level2", traffic_json(report.level2));
  out.set("per_token_and_layer", std::move(levels));
  out.set("notes", list_json(report.notes));
  out.set("refusals", list_json(report.refusals));
  return out;
}

}  // namespace pleiad::plan
