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
  generation_.fetch_add(2);  // changes what sleepers wait on, opens nothing
  generation_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void ThreadPool::run_loop(std::size_t count, Call call, void* context) {
  count_ = count;
  call_ = call;
  context_ = context;
  next_.store(0, std::memory_order_relaxed);
  generation_.fetch_add(1);  // opens the loop
  if (asleep_.load() > 0) generation_.notify_all();

  work(count, call, context);

  // Whoever joins after this sees that the loop is closed and leaves without touching it.
  generation_.fetch_add(1);
  for (int i = 0; joined_.load() != 0; ++i) {
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
  std::uint32_t served = 0;  // the loop this worker joined last
  while (!stopping_.load()) {
    const std::uint32_t seen = wait_for_change(served);
    const bool open = seen % 2 == 1;
    if (!open || seen == served) continue;
    joined_.fetch_add(1);
    if (generation_.load() == seen) work(count_, call_, context_);
    joined_.fetch_sub(1);
    served = seen;
  }
}

// Waits until there may be a loop other than `served`: spins, then sleeps. Gives the generation
// seen.
std::uint32_t ThreadPool::wait_for_change(std::uint32_t served) {
  std::uint32_t seen = generation_.load();
  const auto idle = [served](std::uint32_t generation) {
    return generation % 2 == 0 || generation == served;
  };
  for (int i = 0; i < spin_ && idle(seen); ++i) {
    relax();
    seen = generation_.load();
  }
  if (!idle(seen)) return seen;
  asleep_.fetch_add(1);
  if (!stopping_.load()) generation_.wait(seen);
  asleep_.fetch_sub(1);
  return generation_.load();
}

}  // namespace pleiad::device
