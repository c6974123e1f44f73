#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace pleiad::net {

template <typename Signature>
class UniqueFunction;

// A callable that is moved, never copied, so that it may own what it captures. Calling an empty one
// is a broken invariant (it crashes). Not thread-safe.
template <typename Return, typename... Args>
class UniqueFunction<Return(Args...)> {
 public:
  UniqueFunction() = default;
  UniqueFunction(std::nullptr_t) {}  // NOLINT

  template <typename Callable>
  requires(!std::same_as<std::remove_cvref_t<Callable>, UniqueFunction> && std::is_invocable_r_v<Return, std::decay_t<Callable>&, Args...>)
      UniqueFunction(Callable&& callable)  // NOLINT
      : target_(std::make_unique<Holder<std::decay_t<Callable>>>(std::forward<Callable>(callable))
        ) {}

  explicit operator bool() const { return target_ != nullptr; }
  Return operator()(Args... args) { return target_->call(std::forward<Args>(args)...); }

 private:
  struct Target {
    Target() = default;
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;
    virtual ~Target() = default;
    virtual Return call(Args... args) = 0;
  };

  template <typename Callable>
  struct Holder final : Target {
    explicit Holder(Callable source) : callable(std::move(source)) {}
    Return call(Args... args) override { return callable(std::forward<Args>(args)...); }
    Callable callable;
  };

  std::unique_ptr<Target> target_;
};

// Work for an event loop.
using Task = UniqueFunction<void()>;

}  // namespace pleiad::net
