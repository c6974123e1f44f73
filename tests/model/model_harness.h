#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/token.h"
#include "device/thread_pool.h"
#include "kernels/context.h"
#include "kv/paged_cache.h"
#include "model/model.h"

namespace pleiad::model {

struct HarnessOptions {
  kernels::Compute compute = kernels::Compute::Float32;
  int threads = 2;
  device::CpuIsa isa = device::detect_cpu_isa();
  std::int64_t rows_max = 512;
  std::int64_t context_max = 1088;
  std::string config = "config.json";
  std::optional<int> gpu;  // none: the host computes
};

// A model with a cache for one sequence at a time, for tests that want logits.
class ModelHarness {
 public:
  // Ends the test program when the folder cannot be loaded.
  static ModelHarness load(const std::filesystem::path& folder, const HarnessOptions& options = {});

  // Logits of every position of `tokens` [tokens, vocabulary], computed from an empty cache in
  // chunks of `chunk` tokens.
  std::vector<float> logits(std::span<const TokenId> tokens, std::size_t chunk = 512);

  // The `count` most likely tokens after `prompt`, one by one.
  std::vector<TokenId> greedy(std::span<const TokenId> prompt, std::size_t count);

  // Runs tokens at positions first, first + 1, ... and gives the logits of those rows.
  std::vector<float> run(std::span<const TokenId> tokens, std::int64_t first);

  [[nodiscard]] std::size_t vocabulary() const;
  Model& model() { return *model_; }

 private:
  ModelHarness() = default;

  HarnessOptions options_;
  std::unique_ptr<device::ThreadPool> pool_;
  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<Model> model_;
  kv::PagedCache cache_;
  std::vector<std::uint32_t> page_table_;
};

// A file of tensors, as vectors. Ends the test program when it cannot be read.
class GoldenTensors {
 public:
  explicit GoldenTensors(const std::filesystem::path& file);

  [[nodiscard]] bool contains(const std::string& name) const { return entries_.contains(name); }
  [[nodiscard]] std::vector<float> floats(const std::string& name) const;
  [[nodiscard]] std::vector<TokenId> tokens(const std::string& name) const;

 private:
  std::string bytes_;
  std::map<std::string, std::pair<std::size_t, std::size_t>> entries_;  // begin, end in bytes_
};

// The largest difference of the last rows of `actual` to `expected`, over the range of `expected`.
double error_over_range(std::span<const float> actual, std::span<const float> expected);

std::filesystem::path golden_folder();
std::filesystem::path fable_folder();

}  // namespace pleiad::model
