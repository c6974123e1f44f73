#include "api/worker_report.h"

#include <array>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace pleiad::api {
namespace {

constexpr std::size_t kRanksMax = 4096;
constexpr std::size_t kTextMax = 4096;

struct Text {
  std::string_view name;
  std::string WorkerReport::Identity::*field;
};
constexpr std::array kTexts = {
    Text{"version", &WorkerReport::Identity::version},
    Text{"model", &WorkerReport::Identity::model},
    Text{"digest", &WorkerReport::Identity::digest},
    Text{"compute", &WorkerReport::Identity::compute},
};

struct Count {
  std::string_view name;
  std::int64_t GeneratorStatus::*field;
};
constexpr std::array kCounts = {
    Count{"running", &GeneratorStatus::running},
    Count{"waiting", &GeneratorStatus::waiting},
    Count{"pages_total", &GeneratorStatus::pages_total},
    Count{"pages_held", &GeneratorStatus::pages_held},
    Count{"pages_cached", &GeneratorStatus::pages_cached},
    Count{"tokens_outstanding", &GeneratorStatus::tokens_outstanding},
};

Result<std::string> text_of(const Json& json, std::string_view name) {
  const Json* value = json.find(name);
  const std::string* text = value == nullptr ? nullptr : value->as_string();
  if (text == nullptr || text->size() > kTextMax) {
    return corrupt("a worker's report without a text {}", name);
  }
  return *text;
}

Result<std::int64_t> count_of(const Json& json, std::string_view name) {
  const Json* value = json.find(name);
  const auto count = value == nullptr ? std::nullopt : value->as_int();
  if (!count || *count < 0) return corrupt("a worker's report without a count {}", name);
  return *count;
}

Result<bool> flag_of(const Json& json, std::string_view name) {
  const Json* value = json.find(name);
  const auto flag = value == nullptr ? std::nullopt : value->as_bool();
  if (!flag) return corrupt("a worker's report without a flag {}", name);
  return *flag;
}

Json to_json(const GeneratorStatus& status) {
  Json out;
  out.set("accepting", status.accepting);
  for (const Count& count : kCounts) {
    out.set(std::string(count.name), status.*count.field);
  }
  return out;
}

Result<GeneratorStatus> status_of(const Json& json) {
  GeneratorStatus status;
  PLEIAD_TRY(accepting, flag_of(json, "accepting"));
  status.accepting = accepting;
  for (const Count& count : kCounts) {
    PLEIAD_TRY(value, count_of(json, count.name));
    status.*count.field = value;
  }
  return status;
}

struct RoleName {
  Role role;
  std::string_view name;
};
constexpr std::array kRoles = {
    RoleName{Role::Both, "both"},
    RoleName{Role::Prefill, "prefill"},
    RoleName{Role::Decode, "decode"},
};

}  // namespace

std::string_view to_string(Role role) {
  return kRoles.at(static_cast<std::size_t>(role)).name;
}

std::optional<Role> parse_role(std::string_view name) {
  for (const RoleName& known : kRoles) {
    if (known.name == name) return known.role;
  }
  return std::nullopt;
}

Json to_json(const WorkerReport& report) {
  Json out;
  out.set("instance", report.instance);
  for (const Text& text : kTexts) {
    out.set(std::string(text.name), report.identity.*text.field);
  }
  out.set("page_tokens", report.identity.page_tokens);
  out.set("role", to_string(report.role));
  out.set("vocabulary", report.limits.vocabulary);
  out.set("model_tokens_max", report.limits.model_tokens_max);
  out.set("accepting", report.accepting);
  JsonArray ranks;
  for (const GeneratorStatus& rank : report.ranks) {
    ranks.push_back(to_json(rank));
  }
  out.set("ranks", std::move(ranks));
  return out;
}

Result<WorkerReport> worker_report_of(const Json& json) {
  WorkerReport report;
  PLEIAD_TRY(instance, text_of(json, "instance"));
  report.instance = instance;
  for (const Text& text : kTexts) {
    PLEIAD_TRY(value, text_of(json, text.name));
    report.identity.*text.field = value;
  }
  PLEIAD_TRY(page_tokens, count_of(json, "page_tokens"));
  report.identity.page_tokens = page_tokens;
  PLEIAD_TRY(role_name, text_of(json, "role"));
  const auto role = parse_role(role_name);
  if (!role) return corrupt("a worker's report with the role {}", role_name);
  report.role = *role;
  PLEIAD_TRY(vocabulary, count_of(json, "vocabulary"));
  PLEIAD_TRY(tokens, count_of(json, "model_tokens_max"));
  report.limits = {.vocabulary = vocabulary, .model_tokens_max = tokens};
  PLEIAD_TRY(accepting, flag_of(json, "accepting"));
  report.accepting = accepting;
  const Json* list = json.find("ranks");
  const JsonArray* ranks = list == nullptr ? nullptr : list->as_array();
  if (ranks == nullptr || ranks->empty() || ranks->size() > kRanksMax) {
    return corrupt("a worker's report without 1 to {} ranks", kRanksMax);
  }
  for (const Json& rank : *ranks) {
    PLEIAD_TRY(status, status_of(rank));
    report.ranks.push_back(status);
  }
  return report;
}

std::string difference(const WorkerReport::Identity& here, const WorkerReport::Identity& there) {
  for (const Text& text : kTexts) {
    const std::string& a = here.*text.field;
    const std::string& b = there.*text.field;
    if (a != b) return fmt::format("{} {} here, {} there", text.name, a, b);
  }
  if (here.page_tokens != there.page_tokens) {
    return fmt::format("page_tokens {} here, {} there", here.page_tokens, there.page_tokens);
  }
  return "";
}

}  // namespace pleiad::api
