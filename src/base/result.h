#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <fmt/core.h>

#include "base/check.h"

namespace pleiad {

// What kind of answer an error calls for; the HTTP room maps these to status codes.
enum class ErrorKind {
  InvalidInput,  // the value is wrong and will stay wrong
  NotFound,      // the named thing does not exist
  Unsupported,   // well formed, but this build or model cannot do it
  Corrupt,       // bytes that contradict themselves or their checksum
  Exhausted,     // a limit or pool is full; later may work
  Unavailable,   // not ready, draining, or a peer is gone; later may work
  Cancelled,     // the caller asked to stop
  Timeout,       // a deadline passed
  Internal,      // the operating system or a library refused
};

// The name of `kind` as it stands in the enum.
std::string_view to_string(ErrorKind kind);

// What went wrong, in words an operator can act on: rule, value, nearest valid value.
struct Error {
  ErrorKind kind = ErrorKind::Internal;
  std::string message;
};

template <typename... Args>
Error error(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return Error{kind, fmt::format(format, std::forward<Args>(args)...)};
}

template <typename... Args>
Error invalid_input(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::InvalidInput, format, std::forward<Args>(args)...);
}

template <typename... Args>
Error not_found(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::NotFound, format, std::forward<Args>(args)...);
}

template <typename... Args>
Error unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::Unsupported, format, std::forward<Args>(args)...);
}

template <typename... Args>
Error corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::Corrupt, format, std::forward<Args>(args)...);
}

template <typename... Args>
Error exhausted(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::Exhausted, format, std::forward<Args>(args)...);
}

template <typename... Args>
Error unavailable(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::Unavailable, format, std::forward<Args>(args)...);
}

template <typename... Args>
Error internal_error(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorKind::Internal, format, std::forward<Args>(args)...);
}

// A T, or the Error that stood in its way. Reading the wrong half is a broken invariant.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    PLEIAD_CHECK(ok(), error_text());
    return std::get<0>(state_);
  }

  const T& value() const& {
    PLEIAD_CHECK(ok(), error_text());
    return std::get<0>(state_);
  }

  T&& value() && {
    PLEIAD_CHECK(ok(), error_text());
    return std::get<0>(std::move(state_));
  }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const& {
    PLEIAD_CHECK(!ok(), "no error: the result holds a value");
    return std::get<1>(state_);
  }

  Error&& error() && {
    PLEIAD_CHECK(!ok(), "no error: the result holds a value");
    return std::get<1>(std::move(state_));
  }

 private:
  [[nodiscard]] std::string_view error_text() const {
    return ok() ? std::string_view{} : std::string_view{std::get<1>(state_).message};
  }

  std::variant<T, Error> state_;
};

// Success, or an Error. `return {};` is success.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  void value() const { PLEIAD_CHECK(ok(), error_->message); }

  [[nodiscard]] const Error& error() const& {
    PLEIAD_CHECK(!ok(), "no error: the result holds a value");
    return *error_;
  }

  Error&& error() && {
    PLEIAD_CHECK(!ok(), "no error: the result holds a value");
    return *std::move(error_);
  }

 private:
  std::optional<Error> error_;
};

// The same error with `prefix` put before its message: where it happened, from the outside in.
inline Error with_context(Error error, std::string_view prefix) {
  error.message.insert(0, std::string(prefix) + ": ");
  return error;
}

}  // namespace pleiad

// PLEIAD_TRY(expression) returns its error upwards; PLEIAD_TRY(name, expression) also binds the
// value to a new variable `name`. Usable in functions that return Result.
#define PLEIAD_TRY(...) PLEIAD_TRY_PICK(__VA_ARGS__, PLEIAD_TRY_BIND, PLEIAD_TRY_VOID)(__VA_ARGS__)
#define PLEIAD_TRY_PICK(a, b, macro, ...) macro
#define PLEIAD_TRY_VOID(expression)                                      \
  do {                                                                   \
    if (auto pleiad_try = (expression); !pleiad_try.ok()) [[unlikely]] { \
      return std::move(pleiad_try).error();                              \
    }                                                                    \
  } while (false)
#define PLEIAD_TRY_BIND(name, expression)    \
  auto name##_result = (expression);         \
  if (!name##_result.ok()) [[unlikely]]      \
    return std::move(name##_result).error(); \
  auto&& name = *std::move(name##_result)  // NOLINT(bugprone-macro-parentheses)
