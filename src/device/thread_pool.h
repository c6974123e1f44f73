#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace pleiad::device {

// A fixed team of threads for data-parallel loops inside one step. The thread that calls
// parallel_for() is worker 0 and works too. One caller at a time; calls do not nest.
//
// A call costs one atomic store and, when the others sleep, one wake: workers spin `spin` rounds
// for the next loop before they sleep, so the many short loops of a decode step stay cheap and an
// idle process costs nothing. The caller waits only for workers that joined its loop, so one that
// the system did not schedule in time delays nobody. Nothing here allocates after construction.
//
// Which worker takes which index is not fixed. Callers keep results independent of it (each index
// writes its own outputs).
class ThreadPool {
 public:
  // REQUIRES: workers >= 1. Starts workers - 1 threads.
  explicit ThreadPool(int workers, int spin = kDefaultSpin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int workers() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(index) once for each index in [0, count), spread over the workers; returns when all
  // are done. Indices are handed out one by one in ascending order, so later ones fill the gaps.
  template <typename Body>
  void parallel_for(std::size_t count, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    if (count <= 1 || threads_.empty()) {
      for (std::size_t i = 0; i < count; ++i) {
        body(i);
      }
      return;
    }
    run_loop(
        count,
        [](void* context, std::size_t index) { (*static_cast<Plain*>(context))(index); },
        const_cast<std::remove_const_t<Plain>*>(std::addressof(body))
    );
  }

 private:
  using Call = void (*)(void* context, std::size_t index);
  static constexpr int kDefaultSpin = 4000;

  void run_loop(std::size_t count, Call call, void* context);
  void work(std::size_t count, Call call, void* context);
  void worker_main();
  std::uint32_t wait_for_change(std::uint32_t served);

  int spin_;
  // The loop under way. Written by the caller before generation_ moves, read by workers after.
  std::size_t count_ = 0;
  Call call_ = nullptr;
  void* context_ = nullptr;
  // Odd while a loop is open; workers wait on it.
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<std::size_t> next_{0};      // next index to hand out
  alignas(64) std::atomic<std::uint32_t> joined_{0};  // workers that may be inside the loop
  alignas(64) std::atomic<std::uint32_t> asleep_{0};  // workers waiting in the kernel
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace pleiad::device
