#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/json.h"
#include "text/chat_template.h"

namespace pleiad::text {

// A whole file; empty when it cannot be read.
inline std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// What a conversation of a test's file stands for, at the moment that the renderings were made.
inline RenderInput input_of(const Json& conversation) {
  using namespace std::chrono;
  return {
      .messages = *conversation.find("messages"),
      .tools = *conversation.find("tools"),
      .add_generation_prompt = *conversation.find("add_generation_prompt")->as_bool(),
      .extra = *conversation.find("extra"),
      .bos_token = "<s>",
      .eos_token = "</s>",
      .date = sys_days(year(2025) / March / 7) + hours(14) + minutes(5) + seconds(9),
  };
}

}  // namespace pleiad::text
