#include "text/detail/jinja_lexer.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

std::string lexed(std::string_view source) {
  const auto tokens = lex_template(source);
  if (!tokens.ok()) return "!" + tokens.error().message;
  std::string out;
  for (const Token& token : *tokens) {
    switch (token.kind) {
      case TokenKind::BlockBegin:
        out += "{%";
        break;
      case TokenKind::BlockEnd:
        out += "%}";
        break;
      case TokenKind::VariableBegin:
        out += "{{";
        break;
      case TokenKind::VariableEnd:
        out += "}}";
        break;
      case TokenKind::End:
        break;
      default:
        out += "<" + token.text + ">";
    }
  }
  return out;
}

TEST(JinjaLexer, TakesBlanksAroundTagsAsConfigured) {
  EXPECT_EQ(lexed("a\n  {% x %}\nb"), "<a\n>{%<x>%}<b>");
  EXPECT_EQ(lexed("a  {% x %}  b"), "<a  >{%<x>%}<  b>");
  EXPECT_EQ(lexed("a {%- x -%} b"), "<a>{%<x>%}<b>");
  EXPECT_EQ(lexed("  {%+ x +%}\nb"), "<  >{%<x>%}<\nb>");
  EXPECT_EQ(lexed("  {{ x }}\nb\n"), "<  >{{<x>}}<\nb>");
  EXPECT_EQ(lexed("a{# c #}\nb"), "<a><b>");
}

TEST(JinjaLexer, ClosesATagOnlyOutsideBrackets) {
  EXPECT_EQ(lexed("{{ {'a': {}} }}"), "{{<{><a><:><{><}><}>}}");
}

TEST(JinjaLexer, ResolvesEscapes) {
  EXPECT_EQ(lexed(R"({{ '\n\x41\u00e9\q\'' }})"), "{{<\nA\xC3\xA9\\q'>}}");
}

TEST(JinjaLexer, NamesTheLineOfWhatItCannotRead) {
  EXPECT_THAT(lexed("\n{{ ' }}"), HasSubstr("line 2: string without end"));
  EXPECT_THAT(lexed("{{ x"), HasSubstr("tag without end"));
  EXPECT_THAT(lexed("{# x"), HasSubstr("comment without end"));
  EXPECT_THAT(lexed("{% raw %}x"), HasSubstr("endraw"));
  EXPECT_THAT(lexed("{{ ? }}"), HasSubstr("unexpected character"));
  EXPECT_THAT(lexed("{{ (] }}"), HasSubstr("unexpected ']'"));
  EXPECT_THAT(lexed("{{ '\\ud800' }}"), HasSubstr("escape"));
}

}  // namespace
}  // namespace pleiad::text::detail
