#include "plan/mindie_config.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <span>
#include <utility>

#include "plan/detail/mindie_keys.h"

namespace pleiad::plan {
namespace {

// `key` without case and underscores.
std::string folded(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c != '_' && c != '-') out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

// The path of member `key` of the object at `path`.
std::string under(const std::string& path, const std::string& key) {
  return path.empty() ? key : fmt::format("{}.{}", path, key);
}

class Reader {
 public:
  explicit Reader(const Json& root) : root_(root) {}

  void read_deploy(const std::string& path) {
    for (const auto& [key, value] : *root_.as_object()) {
      if (key == "ModelConfig") {
        read_model_list(under(path, key), value);
      } else {
        judge(path, key, {value, root_, root_}, detail::deploy_keys());
      }
    }
  }

  void add_unknown(std::string path, const Json& value, std::span<const detail::Leaf> known) {
    const std::string key = folded(std::string_view(path).substr(path.find_last_of('.') + 1));
    std::string reason = "no key that is read here";
    for (const detail::Leaf& leaf : known) {
      if (folded(leaf.key) == key) reason += fmt::format("; did you mean {}?", leaf.key);
    }
    entries_.push_back({std::move(path), value, MindieOutcome::Unknown, {}, std::move(reason)});
  }

  std::vector<MindieEntry> take() { return std::move(entries_); }

 private:
  void read_model_list(const std::string& path, const Json& list) {
    const JsonArray* models = list.as_array();
    if (models == nullptr || models->size() != 1 || !models->front().is_object()) {
      refuse(path, list, "must be a list of exactly one object: one model is served");
      return;
    }
    read_model(path + "[0]", models->front());
  }

  void read_model(const std::string& path, const Json& model) {
    if (model.as_object()->empty()) refuse(path, model, "must not be empty");
    for (const auto& [key, value] : *model.as_object()) {
      if (key == "models") {
        read_families(under(path, key), value);
      } else {
        judge(path, key, {value, model, root_}, detail::model_keys());
      }
    }
  }

  void read_families(const std::string& path, const Json& families) {
    if (!is_filled_object(path, families)) return;
    for (const auto& [key, value] : *families.as_object()) {
      if (key == "deepseekv2") {
        read_family(under(path, key), value);
      } else {
        add_unknown(under(path, key), value, {});
      }
    }
  }

  void read_family(const std::string& path, const Json& family) {
    if (!is_filled_object(path, family)) return;
    for (const auto& [key, value] : *family.as_object()) {
      if (key == "eplb") {
        read_eplb(under(path, key), value);
      } else {
        judge(path, key, {value, family, root_}, detail::family_keys());
      }
    }
  }

  void read_eplb(const std::string& path, const Json& eplb) {
    if (!is_filled_object(path, eplb)) return;
    for (const auto& [key, value] : *eplb.as_object()) {
      judge(path, key, {value, eplb, root_}, detail::eplb_keys());
    }
  }

  // Whether there are keys to go through; adds the entry of what is none.
  bool is_filled_object(const std::string& path, const Json& value) {
    if (!value.is_object()) {
      refuse(path, value, fmt::format("is a {}; it must be an object", value.type_name()));
      return false;
    }
    if (!value.as_object()->empty()) return true;
    entries_.push_back({path, value, MindieOutcome::Ignored, {}, "is empty"});
    return false;
  }

  void refuse(const std::string& path, const Json& value, std::string reason) {
    entries_.push_back({path, value, MindieOutcome::Refused, {}, std::move(reason)});
  }

  void judge(
      const std::string& path,
      const std::string& key,
      const detail::Scene& scene,
      std::span<const detail::Leaf> known
  ) {
    const auto leaf =
        std::find_if(known.begin(), known.end(), [&key](const detail::Leaf& candidate) {
          return candidate.key == key;
        });
    if (leaf == known.end()) {
      add_unknown(under(path, key), scene.value, known);
      return;
    }
    detail::Verdict verdict = leaf->judge(scene);
    entries_.push_back(
        {under(path, key),
         scene.value,
         verdict.outcome,
         std::move(verdict.mapped),
         std::move(verdict.reason)}
    );
  }

  const Json& root_;
  std::vector<MindieEntry> entries_;
};

// The first `bytes` bytes at most, cut between characters.
std::string shortened(const std::string& text, std::size_t bytes) {
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0U) == 0x80U) {
    --bytes;
  }
  return text.substr(0, bytes) + "...";
}

// A ModelDeployConfig, the object around it and the path to it.
struct Found {
  const Json* deploy = nullptr;
  const Json* around = nullptr;
  std::string path;
};

std::optional<Found> find_deploy(const Json& value) {
  const auto inside = [](const Json* object) -> const Json* {
    const Json* deploy = object == nullptr ? nullptr : object->find("ModelDeployConfig");
    return deploy != nullptr && deploy->is_object() ? deploy : nullptr;
  };
  if (const Json* deploy = inside(&value)) return Found{deploy, &value, ""};
  const Json* backend = value.find("BackendConfig");
  if (const Json* deploy = inside(backend)) return Found{deploy, backend, "BackendConfig"};
  if (value.find("ModelConfig") != nullptr) return Found{&value, nullptr, ""};
  return std::nullopt;
}

}  // namespace

std::string_view to_string(MindieOutcome outcome) {
  switch (outcome) {
    case MindieOutcome::Mapped:
      return "mapped";
    case MindieOutcome::Ignored:
      return "ignored";
    case MindieOutcome::Refused:
      return "refused";
    case MindieOutcome::Unknown:
      return "unknown";
  }
  return "unknown";
}

std::vector<FlagSetting> MindieConfig::flags() const {
  std::vector<FlagSetting> out;
  for (const MindieEntry& entry : entries) {
    if (entry.outcome == MindieOutcome::Mapped) out.push_back(entry.mapped);
  }
  return out;
}

Result<void> MindieConfig::check() const {
  std::string reasons;
  for (const MindieEntry& entry : entries) {
    if (entry.outcome != MindieOutcome::Refused) continue;
    if (!reasons.empty()) reasons += "; ";
    reasons += entry.path + " " + entry.reason;
  }
  if (reasons.empty()) return {};
  return invalid_input("{}", reasons);
}

std::string MindieConfig::to_text() const {
  constexpr std::size_t kValueLengthMax = 60;
  std::string out;
  for (const MindieEntry& entry : entries) {
    std::string value = entry.value.dump();
    if (value.size() > kValueLengthMax) value = shortened(value, kValueLengthMax);
    out += fmt::format("{} = {} ", entry.path, value);
    if (entry.outcome == MindieOutcome::Mapped) {
      out += fmt::format("-> --{} {}\n", entry.mapped.flag, entry.mapped.values.front());
    } else {
      out += fmt::format("{}: {}\n", to_string(entry.outcome), entry.reason);
    }
  }
  return out;
}

bool is_mindie_config(const Json& value) {
  return find_deploy(value).has_value();
}

Result<MindieConfig> read_mindie_config(const Json& value) {
  const auto found = find_deploy(value);
  if (!found) return invalid_input("no ModelDeployConfig object, and no ModelConfig either");
  Reader reader(*found->deploy);
  // Neighbours of what was looked for are told of, not read.
  if (found->around != nullptr && found->around != &value) {
    for (const auto& [key, other] : *value.as_object()) {
      if (&other != found->around) reader.add_unknown(key, other, {});
    }
  }
  if (found->around != nullptr) {
    for (const auto& [key, other] : *found->around->as_object()) {
      if (&other != found->deploy) reader.add_unknown(under(found->path, key), other, {});
    }
  }
  reader.read_deploy(found->around == nullptr ? "" : under(found->path, "ModelDeployConfig"));
  return MindieConfig{.entries = reader.take()};
}

}  // namespace pleiad::plan
