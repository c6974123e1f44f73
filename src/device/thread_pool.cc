#include "device/thread_pool.h"

#include "base/check.h"

namespace pleiad::device {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int workers, int spin) : spin_(spin) {
  PLEIAD_CHECK(workers >= 1);
  threads_.reserve(static_cast<std::size_t>(workers - 1));
  for (int i = 1; i < workers; ++i) {
    threads_.emplace_back([this] { worker_main(); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
}

void ThreadPool::run_loop(std::size_t count, Call call, void* context) {
  count_ = count;
  call_ = call;
  context_ = context;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<std::uint32_t>(threads_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);
  if (asleep_.load() > 0) generation_.notify_all();

  work(count, call, context);

  for (int i = 0; busy_.load(std::memory_order_acquire) != 0; ++i) {
    if (i < spin_) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::work(std::size_t count, Call call, void* context) {
  for (;;) {
    const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count) return;
    call(context, index);
  }
}

void ThreadPool::worker_main() {
  std::uint32_t seen = 0;
  for (;;) {
    for (int i = 0; i < spin_ && generation_.load(std::memory_order_acquire) == seen; ++i)
      relax();
    if (generation_.load() == seen) {
      asleep_.fetch_add(1);
      generation_.wait(seen);
      asleep_.fetch_sub(1);
    }
    if (generation_.load(std::memory_order_acquire) == seen) continue;
    ++seen;
    if (stopping_.load()) return;
    work(count_, call_, context_);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace pleiad::device
