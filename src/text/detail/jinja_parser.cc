#include "text/detail/jinja_parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "text/detail/jinja_expression_parser.h"
#include "text/detail/jinja_token_stream.h"

namespace pleiad::text::detail {
namespace {

constexpr int kBlockNestingMax = 60;
constexpr int kTargetNestingMax = 20;

class TemplateParser {
 public:
  explicit TemplateParser(std::vector<Token> tokens)
      : tokens_(std::move(tokens)), expressions_(tokens_) {}

  Result<ParsedTemplate> run() {
    ParsedTemplate parsed;
    PLEIAD_TRY(body, block({}));
    if (!tokens_.is(TokenKind::End)) {
      return tokens_.fail(fmt::format("unexpected tag {}", tokens_.described()));
    }
    parsed.body = std::move(body);
    parsed.names = tokens_.take_names();
    return parsed;
  }

 private:
  using Node = std::unique_ptr<Statement>;

  [[nodiscard]] Node make(StatementKind kind) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = tokens_.line();
    return node;
  }

  Result<void> end_of_block() {
    return tokens_.expect(TokenKind::BlockEnd, "the end of the block");
  }

  // Statements up to a tag named in `ends`, whose name is then the current token; with no ends, up
  // to the end of the template.
  Result<Block> block(std::initializer_list<std::string_view> ends) {
    if (depth_ >= kBlockNestingMax) return tokens_.fail("blocks too deeply nested");
    ++depth_;
    Block statements;
    while (!tokens_.is(TokenKind::End)) {
      if (tokens_.is(TokenKind::BlockBegin) && is_one_of(tokens_.ahead(), ends)) {
        tokens_.next();
        --depth_;
        return statements;
      }
      PLEIAD_TRY(node, piece());
      statements.push_back(std::move(node));
    }
    if (ends.size() > 0) {
      return tokens_.fail(fmt::format("template ends where '{}' is expected", *ends.begin()));
    }
    --depth_;
    return statements;
  }

  static bool is_one_of(const Token& token, std::initializer_list<std::string_view> names) {
    return token.kind == TokenKind::Name &&
           std::find(names.begin(), names.end(), token.text) != names.end();
  }

  // Text, an output or a tag with all that belongs to it.
  Result<Node> piece() {
    if (tokens_.is(TokenKind::VariableBegin)) return output();
    if (tokens_.is(TokenKind::Data)) {
      Node node = make(StatementKind::Data);
      node->text = tokens_.current().text;
      tokens_.next();
      return node;
    }
    PLEIAD_TRY(tokens_.expect(TokenKind::BlockBegin, "a tag"));
    PLEIAD_TRY(node, statement());
    PLEIAD_TRY(end_of_block());
    return std::move(node);
  }

  // The body of a block up to and including the name of its end tag.
  Result<Block> body_until(std::string_view end) {
    PLEIAD_TRY(end_of_block());
    PLEIAD_TRY(body, block({end}));
    tokens_.next();
    return std::move(body);
  }

  Result<Node> output() {
    Node node = make(StatementKind::Output);
    tokens_.next();
    PLEIAD_TRY(value, expressions_.tuple());
    PLEIAD_TRY(tokens_.expect(TokenKind::VariableEnd, "the end of the output"));
    node->value = std::move(value);
    return node;
  }

  Result<Node> statement() {
    using Parse = Result<Node> (TemplateParser::*)();
    static constexpr std::array<std::pair<std::string_view, Parse>, 11> kTags = {{
        {"if", &TemplateParser::if_statement},
        {"for", &TemplateParser::for_statement},
        {"set", &TemplateParser::set_statement},
        {"macro", &TemplateParser::macro_statement},
        {"call", &TemplateParser::call_statement},
        {"filter", &TemplateParser::filter_statement},
        {"with", &TemplateParser::with_statement},
        {"generation", &TemplateParser::generation_statement},
        {"break", &TemplateParser::break_statement},
        {"continue", &TemplateParser::continue_statement},
        {"autoescape", &TemplateParser::autoescape_statement},
    }};
    for (const auto& [name, parse] : kTags) {
      if (tokens_.is_name(name)) return (this->*parse)();
    }
    if (tokens_.is(TokenKind::Name)) {
      const std::string& name = tokens_.current().text;
      if (name == "else" || name == "elif" || name.starts_with("end")) {
        return tokens_.fail(fmt::format("tag '{}' with nothing to end", name));
      }
      return unsupported("template line {}: tag '{}'", tokens_.line(), name);
    }
    return tokens_.fail("expected the name of a tag");
  }

  Result<Node> if_statement() {
    Node node = make(StatementKind::If);
    while (true) {
      tokens_.next();
      PLEIAD_TRY(condition, expressions_.tuple(false));
      PLEIAD_TRY(end_of_block());
      PLEIAD_TRY(body, block({"elif", "else", "endif"}));
      Branch branch;
      branch.condition = std::move(condition);
      branch.body = std::move(body);
      node->branches.push_back(std::move(branch));
      if (tokens_.is_name("elif")) continue;
      if (tokens_.is_name("else")) {
        tokens_.next();
        PLEIAD_TRY(other, body_until("endif"));
        node->body = std::move(other);
      } else {
        tokens_.next();
      }
      return node;
    }
  }

  Result<Node> for_statement() {
    Node node = make(StatementKind::For);
    tokens_.next();
    PLEIAD_TRY(target, assignment_target(false));
    node->target = std::move(target);
    if (!tokens_.skip_name("in")) return tokens_.fail("expected 'in'");
    PLEIAD_TRY(iterable, expressions_.tuple(false));
    node->value = std::move(iterable);
    if (tokens_.skip_name("if")) {
      PLEIAD_TRY(condition, expressions_.expression());
      node->condition = std::move(condition);
    }
    if (tokens_.is_name("recursive")) {
      return unsupported("template line {}: recursive for", tokens_.line());
    }
    PLEIAD_TRY(end_of_block());
    ++loops_;
    PLEIAD_TRY(body, block({"endfor", "else"}));
    --loops_;
    node->body = std::move(body);
    const bool has_else = tokens_.is_name("else");
    tokens_.next();
    if (has_else) {
      PLEIAD_TRY(other, body_until("endfor"));
      node->other = std::move(other);
    }
    return node;
  }

  Result<Node> set_statement() {
    Node node = make(StatementKind::Set);
    tokens_.next();
    PLEIAD_TRY(target, assignment_target(true));
    node->target = std::move(target);
    if (tokens_.skip_operator("=")) {
      PLEIAD_TRY(value, expressions_.tuple());
      node->value = std::move(value);
      return node;
    }
    node->kind = StatementKind::SetBlock;
    if (tokens_.is_operator("|")) {
      PLEIAD_TRY(chain, expressions_.filter_chain(false));
      node->value = std::move(chain);
    }
    PLEIAD_TRY(body, body_until("endset"));
    node->body = std::move(body);
    return node;
  }

  Result<std::unique_ptr<MacroNode>> signature(std::unique_ptr<MacroNode> macro) {
    PLEIAD_TRY(tokens_.expect_operator("("));
    while (!tokens_.skip_operator(")")) {
      PLEIAD_TRY(parsed, parameter());
      const bool late =
          !parsed.fallback && !macro->parameters.empty() && macro->parameters.back().fallback;
      if (late) return tokens_.fail("parameter without a default behind one with a default");
      macro->parameters.push_back(std::move(parsed));
      PLEIAD_TRY(tokens_.comma_or_end(")"));
    }
    return macro;
  }

  Result<Parameter> parameter() {
    Parameter parsed;
    PLEIAD_TRY(name, tokens_.expect_name());
    parsed.name = tokens_.intern(name);
    parsed.text = name;
    if (tokens_.skip_operator("=")) {
      PLEIAD_TRY(fallback, expressions_.expression());
      parsed.fallback = std::move(fallback);
    }
    return parsed;
  }

  // The body of `macro` up to its end tag. Loops around it do not count: break cannot leave a
  // macro.
  Result<void> macro_body(MacroNode& macro, std::string_view end) {
    const bool outer_varargs = std::exchange(expressions_.mentions_varargs, false);
    const bool outer_kwargs = std::exchange(expressions_.mentions_kwargs, false);
    const int outer_loops = std::exchange(loops_, 0);
    PLEIAD_TRY(body, body_until(end));
    macro.body = std::move(body);
    macro.takes_varargs = std::exchange(expressions_.mentions_varargs, outer_varargs);
    macro.takes_kwargs = std::exchange(expressions_.mentions_kwargs, outer_kwargs);
    loops_ = outer_loops;
    return {};
  }

  Result<Node> macro_statement() {
    Node node = make(StatementKind::Macro);
    tokens_.next();
    auto macro = std::make_unique<MacroNode>();
    PLEIAD_TRY(name, tokens_.expect_name());
    macro->name = name;
    macro->name_id = tokens_.intern(name);
    PLEIAD_TRY(complete, signature(std::move(macro)));
    PLEIAD_TRY(macro_body(*complete, "endmacro"));
    // The tag may repeat the macro's name.
    if (tokens_.is_name(complete->name)) tokens_.next();
    node->macro = std::move(complete);
    return node;
  }

  Result<Node> call_statement() {
    Node node = make(StatementKind::CallBlock);
    tokens_.next();
    auto macro = std::make_unique<MacroNode>();
    macro->name = "caller";
    if (tokens_.is_operator("(")) {
      PLEIAD_TRY(complete, signature(std::move(macro)));
      macro = std::move(complete);
    }
    PLEIAD_TRY(called, expressions_.expression());
    if (called->kind != ExpressionKind::Call) return tokens_.fail("expected a call");
    node->value = std::move(called);
    PLEIAD_TRY(macro_body(*macro, "endcall"));
    node->macro = std::move(macro);
    return node;
  }

  Result<Node> filter_statement() {
    Node node = make(StatementKind::FilterBlock);
    tokens_.next();
    PLEIAD_TRY(chain, expressions_.filter_chain(true));
    node->value = std::move(chain);
    PLEIAD_TRY(body, body_until("endfilter"));
    node->body = std::move(body);
    return node;
  }

  Result<Node> with_statement() {
    Node node = make(StatementKind::With);
    tokens_.next();
    bool more = !tokens_.is(TokenKind::BlockEnd);
    while (more) {
      PLEIAD_TRY(target, assignment_target(false));
      PLEIAD_TRY(tokens_.expect_operator("="));
      PLEIAD_TRY(value, expressions_.expression());
      node->with.emplace_back(std::move(target), std::move(value));
      more = tokens_.skip_operator(",");
    }
    PLEIAD_TRY(body, body_until("endwith"));
    node->body = std::move(body);
    return node;
  }

  // Marks what a model is trained on; when prompting it is a plain scope.
  Result<Node> generation_statement() {
    Node node = make(StatementKind::Scope);
    tokens_.next();
    PLEIAD_TRY(body, body_until("endgeneration"));
    node->body = std::move(body);
    return node;
  }

  // Prompts are never escaped, so only the harmless setting is let through.
  Result<Node> autoescape_statement() {
    Node node = make(StatementKind::Scope);
    const int line = tokens_.line();
    tokens_.next();
    if (!tokens_.skip_name("false") && !tokens_.skip_name("False")) {
      return unsupported("template line {}: autoescape other than false", line);
    }
    PLEIAD_TRY(body, body_until("endautoescape"));
    node->body = std::move(body);
    return node;
  }

  Result<Node> break_statement() { return loop_control(StatementKind::Break); }
  Result<Node> continue_statement() { return loop_control(StatementKind::Continue); }

  Result<Node> loop_control(StatementKind kind) {
    if (loops_ == 0) return tokens_.fail(fmt::format("{} outside a loop", tokens_.described()));
    Node node = make(kind);
    tokens_.next();
    return node;
  }

  Result<Target> assignment_target(bool with_namespace, int depth = 0) {
    PLEIAD_TRY(first, single_target(with_namespace, depth));
    if (!tokens_.is_operator(",")) return std::move(first);
    Target all;
    all.parts.push_back(std::move(first));
    while (tokens_.skip_operator(",")) {
      if (tokens_.is_name("in") || tokens_.is_operator("=") || tokens_.is_operator(")")) break;
      PLEIAD_TRY(part, single_target(with_namespace, depth));
      all.parts.push_back(std::move(part));
    }
    return all;
  }

  Result<Target> single_target(bool with_namespace, int depth) {
    if (depth > kTargetNestingMax) return tokens_.fail("assignment too deeply nested");
    if (tokens_.skip_operator("(")) {
      PLEIAD_TRY(inner, assignment_target(with_namespace, depth + 1));
      PLEIAD_TRY(tokens_.expect_operator(")"));
      return std::move(inner);
    }
    PLEIAD_TRY(name, tokens_.expect_name());
    constexpr std::array<std::string_view, 8> kReserved = {
        "true", "True", "false", "False", "none", "None", "not", "in"};
    for (const std::string_view reserved : kReserved) {
      if (name == reserved) return tokens_.fail(fmt::format("cannot assign to '{}'", name));
    }
    Target target;
    target.name = tokens_.intern(name);
    if (with_namespace && tokens_.skip_operator(".")) {
      PLEIAD_TRY(attribute, tokens_.expect_name());
      target.attribute = attribute;
    }
    return target;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;  // around the current statement, within its macro
};

}  // namespace

Result<ParsedTemplate> parse_template(std::string_view source) {
  PLEIAD_TRY(tokens, lex_template(source));
  return TemplateParser(std::move(tokens)).run();
}

}  // namespace pleiad::text::detail
