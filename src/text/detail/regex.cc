#include "text/detail/regex.h"

#include <array>

#define PCRE2_CODE_UNIT_WIDTH 8  // NOLINT: the library's own switch
#include <pcre2.h>

#include "text/detail/pattern.h"

namespace pleiad::text::detail {
namespace {

constexpr std::uint32_t kMatchLimit = 20'000'000;
constexpr std::uint32_t kHeapLimitKib = 64U << 10U;
constexpr std::size_t kJitStackStart = 32U << 10U;
constexpr std::size_t kJitStackMax = 4U << 20U;

struct CodeFree {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};

struct MatchDataFree {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

struct ContextFree {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

struct JitStackFree {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

PCRE2_SPTR units(std::string_view text) {
  // An empty view may hold no pointer at all, which PCRE2 refuses.
  return reinterpret_cast<PCRE2_SPTR>(text.empty() ? "" : text.data());
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

struct RegexScratch::State {
  std::unique_ptr<pcre2_match_context, ContextFree> context;
  std::unique_ptr<pcre2_jit_stack, JitStackFree> jit_stack;
  std::unique_ptr<pcre2_match_data, MatchDataFree> data;
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {
  state_->context.reset(pcre2_match_context_create(nullptr));
  state_->jit_stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
  state_->data.reset(pcre2_match_data_create(1, nullptr));
  PLEIAD_CHECK(state_->context != nullptr && state_->data != nullptr, "out of memory");
  pcre2_set_match_limit(state_->context.get(), kMatchLimit);
  pcre2_set_heap_limit(state_->context.get(), kHeapLimitKib);
  // Without a JIT there is no stack, and matching goes through the interpreter.
  if (state_->jit_stack) {
    pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->jit_stack.get());
  }
}

RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  std::unique_ptr<pcre2_code, CodeFree> handle;
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::compile(std::string_view pattern) {
  PLEIAD_TRY(rewritten, pcre_of_onig(pattern));
  return build(rewritten, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
}

Result<Regex> Regex::compile_literal(std::string_view literal) {
  return build(literal, PCRE2_UTF | PCRE2_LITERAL);
}

Result<Regex> Regex::build(std::string_view pattern, std::uint32_t options) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free
  );
  PLEIAD_CHECK(context != nullptr, "out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  auto compiled = std::make_unique<Code>();
  compiled->handle.reset(
      pcre2_compile(units(pattern), pattern.size(), options, &code, &offset, context.get())
  );
  if (!compiled->handle) {
    return unsupported("pattern {} at byte {}: {}", pattern, offset, message_of(code));
  }
  // Where there is no JIT the interpreter matches the same text, slower.
  pcre2_jit_compile(compiled->handle.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(compiled));
}

Result<std::optional<TextRange>>
Regex::find(std::string_view text, std::size_t from, RegexScratch& scratch) const {
  const auto& state = *scratch.state_;
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(
        code_->handle.get(),
        units(text),
        text.size(),
        from,
        PCRE2_NO_UTF_CHECK | options,
        state.data.get(),
        state.context.get()
    );
  };
  int code = match(0);
  if (code == PCRE2_ERROR_JIT_STACKLIMIT) code = match(PCRE2_NO_JIT);
  if (code == PCRE2_ERROR_NOMATCH) return std::optional<TextRange>();
  if (code < 0) return invalid_input("the text cannot be split: {}", message_of(code));
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(state.data.get());
  return std::optional(TextRange{offsets[0], offsets[1]});
}

}  // namespace pleiad::text::detail
