#include "router/policy_file.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>

#include "base/json.h"
#include "base/spelling.h"
#include "base/yaml.h"
#include "router/detail/mapping_reader.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kClassesMax = 16;
constexpr std::size_t kKeysMax = 1024;
constexpr std::size_t kDigestsMax = 8;  // of one key: rotation needs two
constexpr std::size_t kNameBytesMax = 64;
constexpr std::int64_t kRequestsMax = 1'000'000;
constexpr std::int64_t kTokensMax = 1'000'000'000'000;
constexpr std::int64_t kWeightMax = 1000;
constexpr double kSecondsMax = 3600.0;
constexpr double kRelativeMax = 1000.0;

constexpr std::array<std::string_view, 10> kFileKeys = {
    "policy",
    "balance_rel_threshold",
    "balance_abs_threshold",
    "prefill_threshold",
    "max_concurrent_requests",
    "max_concurrent_tokens",
    "assumed_output_tokens",
    "classes",
    "keys",
    "other_keys",
};
constexpr std::array<std::string_view, 5> kClassKeys =
    {"name", "priority", "weight", "queue_requests_max", "wait_seconds_max"};
constexpr std::array<std::string_view, 4> kLimitKeys = {
    "classes",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests"};
constexpr std::array<std::string_view, 6> kKeyKeys = {
    "name",
    "sha256",
    "classes",
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests"};

Result<Json> parse(std::string_view text) {
  constexpr std::size_t kDepthMax = 8;
  if (text.size() > kPolicyFileBytesMax) {
    return invalid_input(
        "a policy file of {} bytes; at most {} are read", text.size(), kPolicyFileBytesMax
    );
  }
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool json = first != std::string_view::npos && text[first] == '{';
  if (json) return parse_json(text, {.depth_max = kDepthMax});
  return parse_yaml(text, {.depth_max = kDepthMax});
}

// Names stand in headers, metrics and logs.
Result<std::string> read_name(const MappingReader& reader) {
  PLEIAD_TRY(name, reader.text("name"));
  if (!name) return invalid_input("{} is missing", reader.path_of("name"));
  const bool plain =
      name->find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
      ) == std::string::npos;
  const bool digits = name->find_first_not_of("-0123456789") == std::string::npos;
  if (!name->empty() && name->size() <= kNameBytesMax && plain && !digits) return *name;
  return invalid_input(
      "{} must have 1 to {} letters, digits, dots, dashes or underscores, and not only digits",
      reader.path_of("name"),
      kNameBytesMax
  );
}

Result<ClassRules> read_class(const Json& value, std::string where) {
  PLEIAD_TRY(reader, MappingReader::open(value, std::move(where), kClassKeys));
  constexpr std::int64_t kPriorityMax = 1'000'000;
  ClassRules out{.queue_max = 256};
  PLEIAD_TRY(name, read_name(reader));
  PLEIAD_TRY(priority, reader.integer("priority", -kPriorityMax, kPriorityMax));
  PLEIAD_TRY(weight, reader.integer("weight", 1, kWeightMax));
  PLEIAD_TRY(queue, reader.integer("queue_requests_max", 0, kRequestsMax));
  PLEIAD_TRY(wait, reader.number("wait_seconds_max", 0.0, kSecondsMax));
  out.name = name;
  if (priority) out.priority = static_cast<std::int32_t>(*priority);
  out.weight = weight.value_or(out.weight);
  if (queue) out.queue_max = static_cast<std::size_t>(*queue);
  if (wait) out.wait_max = Nanoseconds(static_cast<std::int64_t>(*wait * 1e9));
  return out;
}

Result<std::vector<ClassRules>> read_classes(const JsonArray& list) {
  if (list.empty()) return invalid_input("classes is empty; leave it out instead");
  std::vector<ClassRules> out;
  for (const Json& item : list) {
    const std::string where = fmt::format("classes[{}]", out.size());
    PLEIAD_TRY(line, read_class(item, where));
    for (const ClassRules& earlier : out) {
      if (earlier.name == line.name) {
        return invalid_input("{}.name: there is a class {} already", where, line.name);
      }
      if (line.priority && earlier.priority == line.priority) {
        return invalid_input(
            "{}.priority: class {} has {} already", where, earlier.name, *line.priority
        );
      }
    }
    out.push_back(std::move(line));
  }
  return out;
}

Result<void> check_classes(
    const MappingReader& reader,
    const std::vector<std::string>& wanted,
    const std::vector<ClassRules>& classes
) {
  std::vector<std::string_view> known;
  known.reserve(classes.size());
  for (const ClassRules& line : classes) {
    known.push_back(line.name);
  }
  for (const std::string& name : wanted) {
    if (std::ranges::find(known, name) != known.end()) continue;
    return invalid_input(
        "{} names class {}, which is none; nearest: {} (known: {})",
        reader.path_of("classes"),
        name.substr(0, kNameBytesMax),
        nearest_word(name, known),
        listed(known)
    );
  }
  return {};
}

// The limits of a key, or of all that are not named.
Result<KeyRules> read_limits(const MappingReader& reader, const std::vector<ClassRules>& classes) {
  KeyRules out;
  PLEIAD_TRY(wanted, reader.texts("classes", kClassesMax));
  PLEIAD_TRY(check_classes(reader, wanted, classes));
  PLEIAD_TRY(requests, reader.integer("requests_per_minute", 1, kRequestsMax));
  PLEIAD_TRY(tokens, reader.integer("tokens_per_minute", 1, kTokensMax));
  PLEIAD_TRY(concurrent, reader.integer("concurrent_requests", 1, kRequestsMax));
  out.classes = wanted;
  out.requests_per_minute = requests;
  out.tokens_per_minute = tokens;
  if (concurrent) out.concurrent_max = static_cast<std::size_t>(*concurrent);
  return out;
}

Result<void>
add_digests(const MappingReader& reader, const std::string& name, std::vector<KeyDigest>& keys) {
  PLEIAD_TRY(digests, reader.texts("sha256", kDigestsMax));
  for (const std::string& text : digests) {
    const auto digest = parse_sha256(text);
    if (!digest) {
      return invalid_input(
          "{} must be the 64 hexadecimal digits of the key's SHA-256 (printf %s KEY | sha256sum), "
          "got {} bytes that are not",
          reader.path_of("sha256"),
          text.size()
      );
    }
    for (const KeyDigest& other : keys) {
      if (!same_digest(other.digest, *digest)) continue;
      return invalid_input("{}: {} has that key already", reader.path_of("sha256"), other.name);
    }
    keys.push_back({name, *digest});
  }
  return {};
}

Result<void> read_keys(const JsonArray& list, RouterPolicy& policy) {
  policy.admission.keys.clear();
  policy.keys.clear();
  for (const Json& item : list) {
    const std::string where = fmt::format("keys[{}]", policy.admission.keys.size());
    PLEIAD_TRY(reader, MappingReader::open(item, where, kKeyKeys));
    PLEIAD_TRY(name, read_name(reader));
    if (std::ranges::find(policy.admission.keys, name, &KeyRules::name) !=
        policy.admission.keys.end()) {
      return invalid_input("{}.name: there is a key {} already", where, name);
    }
    PLEIAD_TRY(rules, read_limits(reader, policy.admission.classes));
    rules.name = name;
    policy.admission.keys.push_back(std::move(rules));
    PLEIAD_TRY(add_digests(reader, name, policy.keys));
  }
  return {};
}

Result<void> read_routing(const MappingReader& reader, RouterPolicy& policy) {
  PLEIAD_TRY(kind, reader.text("policy"));
  if (kind) {
    auto parsed = parse_policy(*kind);
    if (!parsed.ok()) return with_context(std::move(parsed).error(), reader.path_of("policy"));
    policy.routing.kind = *parsed;
  }
  PLEIAD_TRY(relative, reader.number("balance_rel_threshold", 1.0, kRelativeMax));
  PLEIAD_TRY(absolute, reader.integer("balance_abs_threshold", 0, kTokensMax));
  PLEIAD_TRY(prefill, reader.integer("prefill_threshold", 1, kTokensMax));
  policy.routing.balance_relative = relative.value_or(policy.routing.balance_relative);
  policy.routing.balance_tokens = absolute.value_or(policy.routing.balance_tokens);
  policy.prefill_tokens_min = prefill.value_or(policy.prefill_tokens_min);
  return {};
}

Result<void> read_totals(const MappingReader& reader, AdmissionRules& rules) {
  PLEIAD_TRY(requests, reader.integer("max_concurrent_requests", 1, kRequestsMax));
  PLEIAD_TRY(tokens, reader.integer("max_concurrent_tokens", 1, kTokensMax));
  PLEIAD_TRY(assumed, reader.integer("assumed_output_tokens", 0, kTokensMax));
  if (requests) rules.concurrent_max = static_cast<std::size_t>(*requests);
  if (tokens) rules.tokens_max = tokens;
  rules.assumed_output_tokens = assumed.value_or(rules.assumed_output_tokens);
  return {};
}

}  // namespace

Result<RouterPolicy> read_policy_file(std::string_view text, const RouterPolicy& defaults) {
  RouterPolicy out = defaults;
  PLEIAD_TRY(root, parse(text));
  if (root.is_null()) return out;
  PLEIAD_TRY(reader, MappingReader::open(root, "", kFileKeys));
  PLEIAD_TRY(read_routing(reader, out));
  PLEIAD_TRY(read_totals(reader, out.admission));
  PLEIAD_TRY(classes, reader.list("classes", kClassesMax));
  if (classes != nullptr) {
    PLEIAD_TRY(read, read_classes(*classes));
    out.admission.classes = std::move(read);
  }
  if (const Json* others = reader.find("other_keys")) {
    PLEIAD_TRY(limits, MappingReader::open(*others, "other_keys", kLimitKeys));
    PLEIAD_TRY(rules, read_limits(limits, out.admission.classes));
    out.admission.other_keys = std::move(rules);
  }
  PLEIAD_TRY(keys, reader.list("keys", kKeysMax));
  if (keys != nullptr) PLEIAD_TRY(read_keys(*keys, out));
  return out;
}

}  // namespace pleiad::router
