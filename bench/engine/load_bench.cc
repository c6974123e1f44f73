// Loading a checkpoint, beside what the machine takes for memory and files alone. Two things can
// cost more than all of loading and are no part of it: a guest whose host takes free memory back
// (free page reporting) gets it again page by page at the first touch, and a kernel may drop files
// from its cache. So before each load but the first the files are read, and as much memory as the
// weights take is touched and given back, both timed. The first load finds what there is.
//
// usage: load_bench MODEL_FOLDER [LOADS]
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "device/buffer.h"
#include "device/thread_pool.h"
#include "engine/load.h"

namespace pleiad::bench {
namespace {

constexpr double kGiga = 1e9;
constexpr std::size_t kPageBytes = 4096;
constexpr double kPauseSeconds = 10.0;

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

rusage usage() {
  rusage out{};
  getrusage(RUSAGE_SELF, &out);
  return out;
}

// Seconds to touch every page of `bytes` of new memory with every processor.
double touch_seconds(std::size_t bytes, const Clock& clock) {
  device::ThreadPool pool(device::available_processors());
  auto buffer = device::Buffer::allocate(bytes).value();
  constexpr std::size_t kPart = std::size_t{4} << 20U;
  const Nanoseconds begin = clock.now();
  pool.parallel_for((bytes + kPart - 1) / kPart, [&](std::size_t part) {
    const std::size_t end = std::min(bytes, (part + 1) * kPart);
    for (std::size_t at = part * kPart; at < end; at += kPageBytes) {
      buffer.data()[at] = std::byte{1};
    }
  });
  return to_seconds(clock.now() - begin);
}

// Seconds to read every file of a folder; what was not in the page cache is afterwards.
double read_seconds(const std::string& folder, const Clock& clock) {
  std::vector<char> buffer(std::size_t{1} << 20U);
  const Nanoseconds begin = clock.now();
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()))) {
    }
  }
  return to_seconds(clock.now() - begin);
}

int main_with(const std::string& model, int loads) {
  const SystemClock clock;
  std::size_t bytes = 0;
  for (int i = 0; i <= loads; ++i) {
    if (i > 0) {
      // Linux hands free memory to the host two seconds later: that passes meanwhile and does not
      // fall into the load.
      const Nanoseconds begin = clock.now();
      double read = 0.0;
      while (to_seconds(clock.now() - begin) < kPauseSeconds) {
        read = read_seconds(model, clock);
      }
      const double seconds = touch_seconds(bytes, clock);
      fmt::print(
          "alone: files read in {:.2f} s; {:.2f} GB of memory touched in {:.2f} s, {:.2f} GB/s\n",
          read,
          static_cast<double>(bytes) / kGiga,
          seconds,
          static_cast<double>(bytes) / kGiga / seconds
      );
    }
    const rusage before = usage();
    const auto loaded = engine::load_model(
        {.model = model,
         .dtype = engine::ComputeChoice::BFloat16,
         .max_model_len = 512,
         .kv_cache_bytes = std::size_t{64} << 20U},
        clock
    );
    if (!loaded.ok()) {
      fmt::print(stderr, "{}\n", loaded.error().message);
      return 1;
    }
    const rusage after = usage();
    bytes = loaded->weight_bytes;
    fmt::print(
        "load {}: headers {:.3f} s, {:.2f} GB packed in {:.2f} s, {:.2f} GB/s; processor {:.2f} s "
        "own, {:.2f} s kernel; faults {} minor, {} major; peak resident {:.2f} GB\n",
        i,
        loaded->read_seconds,
        static_cast<double>(bytes) / kGiga,
        loaded->pack_seconds,
        static_cast<double>(bytes) / kGiga / loaded->pack_seconds,
        seconds_of(after.ru_utime) - seconds_of(before.ru_utime),
        seconds_of(after.ru_stime) - seconds_of(before.ru_stime),
        after.ru_minflt - before.ru_minflt,
        after.ru_majflt - before.ru_majflt,
        static_cast<double>(after.ru_maxrss) * 1024.0 / kGiga
    );
  }
  return 0;
}

}  // namespace
}  // namespace pleiad::bench

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: {} MODEL_FOLDER [LOADS]\n", argv[0]);
    return 2;
  }
  const int loads = argc > 2 ? static_cast<int>(std::strtol(argv[2], nullptr, 10)) : 5;
  return pleiad::bench::main_with(argv[1], loads);
}
