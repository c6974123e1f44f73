#include "server/chat_messages.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace pleiad::server {
namespace {

constexpr std::array<std::string_view, 5> kRoles =
    {"system", "developer", "user", "assistant", "tool"};
constexpr std::size_t kToolsMax = 128;
constexpr std::size_t kNameBytesMax = 64;

const std::string* text_member(const Json& object, std::string_view key) {
  const Json* member = object.find(key);
  return member == nullptr ? nullptr : member->as_string();
}

// The text of a list of parts, or what is wrong with it.
std::variant<std::string, ApiError> join_parts(const JsonArray& parts, std::string_view where) {
  std::string out;
  for (const Json& part : parts) {
    const std::string* type = text_member(part, "type");
    const std::string* text = text_member(part, "text");
    if (type == nullptr || *type != "text" || text == nullptr) {
      return bad_parameter(
          where,
          fmt::format(
              "{} parts must be {{\"type\": \"text\", \"text\": ...}}; this model reads text only",
              where
          )
      );
    }
    out += *text;
  }
  return out;
}

std::optional<ApiError> normalise_message(Json& message, std::size_t index) {
  const std::string where = fmt::format("messages[{}]", index);
  if (!message.is_object()) return bad_parameter(where, where + " must be an object");
  const std::string* role = text_member(message, "role");
  if (role == nullptr || std::ranges::find(kRoles, *role) == kRoles.end()) {
    return bad_parameter(
        where + ".role", where + ".role must be system, developer, user, assistant or tool"
    );
  }
  const Json* content = message.find("content");
  if (content != nullptr && content->is_string()) return std::nullopt;
  const std::string content_name = where + ".content";
  if (content != nullptr && content->is_array()) {
    auto joined = join_parts(*content->as_array(), content_name);
    if (auto* error = std::get_if<ApiError>(&joined)) return std::move(*error);
    message.set("content", std::get<std::string>(std::move(joined)));
    return std::nullopt;
  }
  const bool absent = content == nullptr || content->is_null();
  // Only an assistant that called tools may have said nothing.
  const bool may_be_absent = *role == "assistant";
  if (!absent || !may_be_absent) {
    return bad_parameter(content_name, content_name + " must be a string or a list of text parts");
  }
  message.set("content", "");
  return std::nullopt;
}

}  // namespace

std::variant<Json, ApiError> normalise_messages(const Json* messages) {
  if (messages == nullptr || !messages->is_array() || messages->as_array()->empty()) {
    return bad_parameter("messages", "messages must be a list of at least one message");
  }
  Json out = *messages;
  JsonArray& list = *out.as_array();
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (auto error = normalise_message(list[i], i)) return *std::move(error);
  }
  return out;
}

std::optional<ApiError> check_tools(const Json& tools) {
  const JsonArray* list = tools.as_array();
  if (list == nullptr || list->size() > kToolsMax) {
    return bad_parameter(
        "tools", fmt::format("tools must be a list of at most {} tools", kToolsMax)
    );
  }
  for (const Json& tool : *list) {
    const std::string* type = text_member(tool, "type");
    const Json* function = tool.find("function");
    const std::string* name = function == nullptr ? nullptr : text_member(*function, "name");
    const auto allowed = [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '-';
    };
    const bool fine = type != nullptr && *type == "function" && name != nullptr && !name->empty() &&
                      name->size() <= kNameBytesMax && std::ranges::all_of(*name, allowed);
    if (!fine) {
      return bad_parameter(
          "tools",
          fmt::format(
              "each tool must be a function with a name of 1 to {} of [A-Za-z0-9_-]", kNameBytesMax
          )
      );
    }
  }
  return std::nullopt;
}

}  // namespace pleiad::server
