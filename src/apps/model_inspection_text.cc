// The two written forms of a ModelInspection.
#include <array>
#include <cmath>
#include <iterator>
#include <string_view>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "apps/model_inspection.h"

namespace pleiad::apps {
namespace {

// 1.57 B, 12.3 M.
std::string count_text(std::int64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.2f} B", value * 1e-9);
  if (value >= 1e6) return fmt::format("{:.2f} M", value * 1e-6);
  return fmt::format("{}", count);
}

std::string bytes_text(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return fmt::format("{:.2f} GB", value * 1e-9);
  if (value >= 1e6) return fmt::format("{:.2f} MB", value * 1e-6);
  return fmt::format("{:.2f} kB", value * 1e-3);
}

// Ids and whatever else a file may hold, without what would move a terminal's cursor.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool control = static_cast<unsigned char>(c) < ' ' || c == '\x7f';
    out += control ? '?' : c;
  }
  return out;
}

void write_sizes(const ModelInspection& in, std::string& out) {
  auto to = std::back_inserter(out);
  fmt::format_to(to, "architecture   {}\n", printable(in.architecture));
  fmt::format_to(
      to,
      "layers         {}, {} of them with {} experts, {} per token\n",
      in.layers,
      in.moe_layers,
      in.experts,
      in.topk
  );
  fmt::format_to(to, "vocabulary     {}\n", in.vocabulary);
  fmt::format_to(to, "context        {} tokens\n", in.positions_max);
  fmt::format_to(
      to,
      "parameters     {}, {} active per token\n",
      count_text(in.parameters),
      count_text(in.active_parameters)
  );
}

void write_shares(const ModelInspection& in, std::string& out) {
  auto to = std::back_inserter(out);
  fmt::format_to(
      to, "\n{:<15}{:<9}{:>8}{:>14}{:>14}\n", "role", "stored", "tensors", "parameters", "bytes"
  );
  for (const ModelInspection::Share& share : in.shares) {
    fmt::format_to(
        to,
        "{:<15}{:<9}{:>8}{:>14}{:>14}\n",
        share.role,
        share.dtype,
        share.tensors,
        count_text(share.parameters),
        bytes_text(share.bytes)
    );
  }
}

struct UnreadCount {
  std::string_view name;
  std::int64_t count = 0;
};

std::array<UnreadCount, 5> unread_counts(const model::UnreadTensors& unread) {
  return {{
      {"further layers", unread.further_layers},
      {"rotary frequencies", unread.frequencies},
      {"cache scales", unread.cache_scales},
      {"tied heads", unread.tied_heads},
      {"outside", unread.outside},
  }};
}

void write_unread(const ModelInspection& in, std::string& out) {
  for (const UnreadCount& unread : unread_counts(in.unread)) {
    if (unread.count == 0) continue;
    fmt::format_to(
        std::back_inserter(out), "not needed: {} tensors ({})\n", unread.count, unread.name
    );
  }
}

void write_memory(const ModelInspection& in, std::string& out) {
  auto to = std::back_inserter(out);
  const auto weights = [](const std::optional<std::size_t>& bytes) {
    return bytes ? bytes_text(static_cast<std::int64_t>(*bytes)) : std::string("-");
  };
  fmt::format_to(to, "\n{:<15}{:>14}{:>20}\n", "--dtype", "weights", "KV bytes per token");
  fmt::format_to(
      to,
      "{:<15}{:>14}{:>20}\n",
      "bfloat16",
      weights(in.packed_bytes_bfloat16),
      in.kv_bytes_bfloat16
  );
  fmt::format_to(
      to, "{:<15}{:>14}{:>20}\n", "float32", weights(in.packed_bytes_float32), in.kv_bytes_float32
  );
}

void write_layouts(const ModelInspection& in, std::string& out) {
  if (in.experts == 0) return;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "\n--ep-size      1 to {}; even: ", in.experts);
  fmt::format_to(to, "{}\n", fmt::join(in.even_ep_sizes, ", "));
  fmt::format_to(to, "--moe-tp-size  {}\n", fmt::join(in.moe_tp_sizes, ", "));
  fmt::format_to(to, "--tp-size      {}\n", fmt::join(in.tp_sizes, ", "));
}

void write_text_side(const ModelInspection& in, std::string& out) {
  auto to = std::back_inserter(out);
  fmt::format_to(to, "\ntokenizer      {} tokens\n", in.tokens);
  fmt::format_to(to, "bos, eos       {}, {}\n", printable(in.bos_token), printable(in.eos_token));
  fmt::format_to(to, "chat template  {}\n", in.chat_template ? "yes" : "none");
}

}  // namespace

std::string to_text(const ModelInspection& in) {
  std::string out;
  if (in.vocabulary > 0) write_sizes(in, out);
  if (!in.shares.empty()) write_shares(in, out);
  write_unread(in, out);
  if (in.packed_bytes_float32) write_memory(in, out);
  write_layouts(in, out);
  if (in.tokens > 0) write_text_side(in, out);
  for (const std::string& problem : in.problems) {
    fmt::format_to(std::back_inserter(out), "\nwould be refused: {}", printable(problem));
  }
  if (!in.problems.empty()) out += '\n';
  return out;
}

Json to_json(const ModelInspection& in) {
  Json out;
  out.set("architecture", in.architecture);
  out.set("layers", in.layers);
  out.set("moe_layers", in.moe_layers);
  out.set("experts", in.experts);
  out.set("experts_per_token", in.topk);
  out.set("vocabulary", in.vocabulary);
  out.set("context", in.positions_max);
  out.set("parameters", in.parameters);
  out.set("active_parameters", in.active_parameters);
  JsonArray shares;
  for (const ModelInspection::Share& share : in.shares) {
    Json one;
    one.set("role", share.role);
    one.set("dtype", share.dtype);
    one.set("tensors", share.tensors);
    one.set("parameters", share.parameters);
    one.set("bytes", share.bytes);
    shares.push_back(std::move(one));
  }
  out.set("tensors", std::move(shares));
  Json unread;
  for (const UnreadCount& one : unread_counts(in.unread)) {
    unread.set(one.name, one.count);
  }
  out.set("tensors_not_needed", std::move(unread));
  const auto bytes = [](const std::optional<std::size_t>& value) {
    return value ? Json(static_cast<std::int64_t>(*value)) : Json();
  };
  out.set("weight_bytes_float32", bytes(in.packed_bytes_float32));
  out.set("weight_bytes_bfloat16", bytes(in.packed_bytes_bfloat16));
  out.set("kv_bytes_per_token_float32", in.kv_bytes_float32);
  out.set("kv_bytes_per_token_bfloat16", in.kv_bytes_bfloat16);
  out.set("even_ep_sizes", JsonArray(in.even_ep_sizes.begin(), in.even_ep_sizes.end()));
  out.set("moe_tp_sizes", JsonArray(in.moe_tp_sizes.begin(), in.moe_tp_sizes.end()));
  out.set("tp_sizes", JsonArray(in.tp_sizes.begin(), in.tp_sizes.end()));
  out.set("tokens", in.tokens);
  out.set("bos_token", in.bos_token);
  out.set("eos_token", in.eos_token);
  out.set("chat_template", in.chat_template);
  out.set("problems", JsonArray(in.problems.begin(), in.problems.end()));
  return out;
}

}  // namespace pleiad::apps
