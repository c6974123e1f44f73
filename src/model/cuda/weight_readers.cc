#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "model/cuda/weight_reader.h"
#include "model/cuda/weight_upload.h"

namespace pleiad::model::cuda {
namespace {

using Origins = std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin>;

constexpr auto kProgressEvery = std::chrono::milliseconds(200);
// Work space of all readers together.
constexpr std::size_t kUnpackedBytesMax = std::size_t{1} << 30U;

std::size_t bytes_of(const WeightUpload& upload) {
  if (upload.source == nullptr) return upload.bytes.size();
  const auto panels =
      (upload.outputs + kernels::PackedMatrix::kPanel - 1) / kernels::PackedMatrix::kPanel;
  return static_cast<std::size_t>(panels) * upload.source->panel_bytes();
}

// The uploads under way, shared by the threads.
class Team {
 public:
  Team(std::vector<WeightUpload> uploads, const Origins& origins)
      : uploads_(std::move(uploads)), origins_(origins) {
    for (const WeightUpload& upload : uploads_) {
      total_ += bytes_of(upload);
      if (upload.packed == nullptr) continue;
      const auto rows = kernels::cuda::plan_device_matrix(upload.outputs, upload.source->layout());
      unpacked_ = std::max(unpacked_, kernels::cuda::device_matrix_bytes(rows));
    }
  }

  [[nodiscard]] std::size_t unpacked_bytes() const { return unpacked_; }

  // What one thread does.
  void work(int gpu, const weights::Checkpoint& checkpoint) {
    auto worked = read_all(gpu, checkpoint);
    const std::scoped_lock lock(mutex_);
    if (!worked.ok() && !failure_) failure_ = std::move(worked).error();
    --working_;
    ended_.notify_all();
  }

  // Tells of progress until all threads have ended.
  void watch(const std::function<void(std::size_t, std::size_t)>& progress) {
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, kProgressEvery, [this] { return working_ == 0; })) {
      if (progress) progress(done_.load(), total_);
    }
    if (progress && !failure_) progress(total_, total_);
  }

  void expect(int readers) { working_ = readers; }
  std::optional<Error>& failure() { return failure_; }
  [[nodiscard]] const LoadPhases& phases() const { return phases_; }

 private:
  Result<void> read_all(int gpu, const weights::Checkpoint& checkpoint) {
    PLEIAD_TRY(reader, WeightReader::create(gpu, unpacked_, checkpoint));
    for (;;) {
      const std::size_t index = next_.fetch_add(1);
      if (index >= uploads_.size()) break;
      const WeightUpload& upload = uploads_[index];
      const auto origin = origins_.find(upload.source);
      auto sent = reader.run(upload, origin == origins_.end() ? nullptr : &origin->second, index);
      if (!sent.ok()) {
        next_.store(uploads_.size());  // the others stop too
        static_cast<void>(reader.finish());
        return sent;
      }
      done_.fetch_add(bytes_of(upload));
    }
    PLEIAD_TRY(reader.finish());
    const std::scoped_lock lock(mutex_);
    phases_.bytes += reader.phases().bytes;
    phases_.read_seconds += reader.phases().read_seconds;
    phases_.pack_seconds += reader.phases().pack_seconds;
    phases_.waited_seconds += reader.phases().waited_seconds;
    return {};
  }

  std::vector<WeightUpload> uploads_;
  const Origins& origins_;
  std::size_t total_ = 0;
  std::size_t unpacked_ = 0;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> done_{0};
  std::mutex mutex_;  // guards what follows
  std::condition_variable ended_;
  int working_ = 0;
  std::optional<Error> failure_;
  LoadPhases phases_;
};

}  // namespace

Result<LoadPhases> upload(
    const std::vector<WeightUpload>& uploads,
    const Origins& origins,
    const weights::Checkpoint& checkpoint,
    const UploadOptions& options
) {
  const SystemClock clock;
  const Nanoseconds begin = clock.now();
  Team team(cut_uploads(uploads, WeightReader::kBufferBytes), origins);
  const auto affordable =
      static_cast<int>(kUnpackedBytesMax / std::max<std::size_t>(1, team.unpacked_bytes() + 1));
  const int readers = std::clamp(affordable, 1, std::max(1, options.readers));
  team.expect(readers);
  std::vector<std::thread> threads;
  for (int i = 0; i < readers; ++i) {
    threads.emplace_back([&] { team.work(options.gpu, checkpoint); });
  }
  team.watch(options.progress);
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (team.failure()) return *std::move(team.failure());
  LoadPhases phases = team.phases();
  phases.readers = readers;
  phases.read_seconds /= readers;
  phases.pack_seconds /= readers;
  phases.waited_seconds /= readers;
  phases.total_seconds = to_seconds(clock.now() - begin);
  return phases;
}

}  // namespace pleiad::model::cuda
