#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pleiad::text::detail {

enum class TokenKind {
  Data,        // literal text, whitespace control applied
  BlockBegin,  // {%
  BlockEnd,
  VariableBegin,  // {{
  VariableEnd,
  Name,
  Integer,
  Float,
  String,    // escapes resolved
  Operator,  // one of + - / // * % ** ~ [ ] ( ) { } == != > >= < <= = . : | , ;
  End,
};

struct Token {
  TokenKind kind = TokenKind::End;
  int line = 1;
  std::string text;
};

// Cuts a template into tokens as Jinja 3 does with trim_blocks and lstrip_blocks on and the last
// newline of the source dropped. Comments vanish; raw blocks become data. Fails with InvalidInput
// naming the line.
Result<std::vector<Token>> lex_template(std::string_view source);

}  // namespace pleiad::text::detail
