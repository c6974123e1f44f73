#include "text/detail/post_processor.h"

#include <string>

namespace pleiad::text::detail {
namespace {

constexpr int kSequenceDepthMax = 8;
constexpr std::int64_t kIdLimit = 1 << 24;

// The ids that the template's special token `name` stands for.
Result<std::vector<TokenId>> ids_of(const Json& config, const std::string& name) {
  const Json* table = config.find("special_tokens");
  const Json* entry = table == nullptr ? nullptr : table->find(name);
  const Json* ids = entry == nullptr ? nullptr : entry->find("ids");
  if (ids == nullptr || ids->as_array() == nullptr) {
    return corrupt("post_processor template uses {}, which special_tokens does not define", name);
  }
  std::vector<TokenId> out;
  for (const Json& id : *ids->as_array()) {
    const auto number = id.as_int();
    if (!number || *number < 0 || *number >= kIdLimit) {
      return corrupt("post_processor token {} has the id {}", name, id.dump());
    }
    out.push_back(static_cast<TokenId>(*number));
  }
  return out;
}

Result<void> add_template(const Json& config, Frame& frame) {
  const Json* single = config.find("single");
  if (single == nullptr || single->as_array() == nullptr) {
    return corrupt("post_processor TemplateProcessing has no template named single");
  }
  Frame added;
  bool seen_text = false;
  for (const Json& piece : *single->as_array()) {
    const Json* special = piece.find("SpecialToken");
    if (special == nullptr) {
      if (piece.find("Sequence") == nullptr) {
        return unsupported("post_processor template piece {}", piece.dump());
      }
      if (seen_text) return unsupported("post_processor template that repeats the text");
      seen_text = true;
      continue;
    }
    const Json* id = special->find("id");
    if (id == nullptr || id->as_string() == nullptr) {
      return corrupt("post_processor SpecialToken without an id");
    }
    PLEIAD_TRY(ids, ids_of(config, *id->as_string()));
    auto& side = seen_text ? added.after : added.before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!seen_text) return unsupported("post_processor template without the text");
  frame.before.insert(frame.before.begin(), added.before.begin(), added.before.end());
  frame.after.insert(frame.after.end(), added.after.begin(), added.after.end());
  return {};
}

Result<void> add(const Json& config, int depth, Frame& frame) {
  if (config.is_null()) return {};
  const Json* type = config.find("type");
  const std::string* name = type == nullptr ? nullptr : type->as_string();
  if (name == nullptr) return corrupt("post_processor without a type");
  if (*name == "ByteLevel") return {};
  if (*name == "TemplateProcessing") return add_template(config, frame);
  const Json* members = config.find("processors");
  const JsonArray* list = members == nullptr ? nullptr : members->as_array();
  if (*name != "Sequence" || list == nullptr || depth > kSequenceDepthMax) {
    return unsupported("post_processor {}", *name);
  }
  for (const Json& member : *list) {
    PLEIAD_TRY(add(member, depth + 1, frame));
  }
  return {};
}

}  // namespace

Result<Frame> parse_post_processor(const Json& config) {
  Frame frame;
  PLEIAD_TRY(add(config, 0, frame));
  return frame;
}

}  // namespace pleiad::text::detail
