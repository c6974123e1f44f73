#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/detail/jinja_value.h"

namespace pleiad::text::detail {

// A parsed template. Immutable, shared by all renderings.

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct FilterEntry;
struct TestEntry;

enum class ExpressionKind {
  Constant,    // constant, or text
  Name,        // name
  List,        // children: items
  Tuple,       // children: items
  Dict,        // children: key, value, key, value, ...
  Attribute,   // children: object; text: the attribute
  Item,        // children: object, index
  Slice,       // children: object, begin, end, step (null where absent)
  Call,        // children: callee; arguments
  Filter,      // children: value; filter, arguments. Null value: the body of a filter block
  Test,        // children: value; test, arguments
  Not,         // children: operand
  Negate,      // children: operand
  Plus,        // children: operand
  And,         // children: left, right
  Or,          // children: left, right
  Binary,      // children: left, right; operation
  Concat,      // children: operands of ~
  Compare,     // children: first operand, then one for each of comparisons
  Conditional  // children: condition, then, else (null where absent)
};

enum class BinaryOperation { Add, Subtract, Multiply, Divide, FloorDivide, Modulo, Power };
enum class Comparison { Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, In, NotIn };
enum class ArgumentKind { Positional, Keyword, Spread, SpreadKeywords };

struct ArgumentNode {
  ArgumentKind kind = ArgumentKind::Positional;
  std::string keyword;
  ExpressionPtr value;
};

struct Expression {
  ExpressionKind kind = ExpressionKind::Constant;
  int line = 1;
  int depth = 1;  // of the tree below, this node included
  Value constant;
  // What a constant string or an attribute's name is; Value points here.
  std::unique_ptr<const TrackedText> text;
  NameId name = 0;
  BinaryOperation operation = BinaryOperation::Add;
  std::vector<Comparison> comparisons;
  std::vector<ExpressionPtr> children;
  std::vector<ArgumentNode> arguments;
  const FilterEntry* filter = nullptr;
  const TestEntry* test = nullptr;
};

struct Statement;
using Block = std::vector<std::unique_ptr<const Statement>>;

// What a value is assigned to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  NameId name = 0;
  std::string attribute;      // not empty: name.attribute
  std::vector<Target> parts;  // not empty: a tuple
};

enum class StatementKind {
  Data,         // text
  Output,       // value
  If,           // branches; body: else
  For,          // target, value: iterable, condition: filter; body; other: else
  Set,          // target, value
  SetBlock,     // target, value: a filter chain or null; body
  Macro,        // macro
  CallBlock,    // value: the call; macro: the caller
  FilterBlock,  // value: filter chain; body
  With,         // with; body
  Scope,        // body
  Break,
  Continue
};

struct Parameter {
  NameId name = 0;
  std::string text;
  ExpressionPtr fallback;  // null: undefined
};

struct MacroNode {
  std::string name;
  NameId name_id = 0;
  std::vector<Parameter> parameters;
  Block body;
  bool takes_varargs = false;  // the body mentions varargs
  bool takes_kwargs = false;   // the body mentions kwargs
};

struct Branch {
  ExpressionPtr condition;
  Block body;
};

struct Statement {
  StatementKind kind = StatementKind::Data;
  int line = 1;
  std::string text;
  Target target;
  ExpressionPtr value;
  ExpressionPtr condition;
  std::vector<Branch> branches;
  std::vector<std::pair<Target, ExpressionPtr>> with;
  std::unique_ptr<const MacroNode> macro;
  Block body;
  Block other;
};

// Names of variables that the interpreter itself refers to.
struct ParsedTemplate {
  Block body;
  std::vector<std::string> names;  // by NameId
};

}  // namespace pleiad::text::detail
