#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/lockstep.h"
#include "plan/ep_settings.h"
#include "plan/expert_placement.h"
#include "plan/parallel_layout.h"

namespace pleiad::engine {

enum class ComputeChoice { Auto, Float32, BFloat16 };

// How a model folder is served; the flags of `pleiad serve` with the same names.
struct LoadSettings {
  std::filesystem::path model;
  ComputeChoice dtype = ComputeChoice::Auto;  // Auto: bfloat16 unless the checkpoint is float32
  bool dummy_weights = false;                 // noise instead of the folder's weights
  std::optional<int> gpu;                     // which GPU computes; none: the host
  int threads = 0;                            // 0: every processor of this process
  std::optional<device::CpuIsa> isa;          // none: the best there is
  std::int64_t max_model_len = 0;             // 0: what the checkpoint and memory allow
  std::int64_t max_model_len_limit = 0;       // at most this, and what they allow; 0: no limit
  // Of each rank:
  std::int64_t max_num_seqs = 128;
  std::int64_t max_num_batched_tokens = 512;
  std::int64_t chunked_prefill_size = 512;
  std::int64_t max_waiting = 1024;
  double mem_fraction_static = 0.8;
  std::size_t kv_cache_bytes = 0;  // of all ranks here; 0: what the fraction leaves
  bool prefix_cache = true;
  bool share_caches = false;  // with processes of the same machine, to read
  std::string model_name;
  plan::ParallelLayout layout;  // of the group; this process hosts the ranks of layout.node_rank
  plan::EpSettings ep;
  bool force_routing = false;  // route by hash a checkpoint that was trained with a gate
  // Where experts stand, [moe layers]; empty: in id order over the ranks.
  std::vector<plan::ExpertPlacement> placements;
  std::function<void(std::size_t done, std::size_t total)> progress;
};

// A loaded model, ready to become Engines, and how long that took.
struct LoadedModel {
  std::unique_ptr<model::ModelWeights> weights;   // outlives the ranks
  std::vector<plan::ExpertPlacement> placements;  // [moe layers]; outlives the ranks
  std::vector<EngineParts> ranks;                 // of this process
  LockstepOptions lockstep;                       // the same for every rank of the group
  std::string digest;  // of config and tensor headers: equal checkpoints have equal digests
  std::string architecture;
  model::Compute compute = model::Compute::Float32;
  device::CpuIsa isa = device::CpuIsa::Portable;
  std::string gpu;               // its name; empty: the host computes
  std::size_t weight_bytes = 0;  // held by this process
  model::ScratchBytes scratch;   // of all ranks here
  std::int64_t positions_max = 0;
  double read_seconds = 0.0;     // config, headers
  double pack_seconds = 0.0;     // weights into their packed form, where they are computed with
  model::LoadPhases phases;      // of that
  double prepare_seconds = 0.0;  // ranks: scratch, tables, choice of kernels
  double cache_seconds = 0.0;    // KV pages
  double record_seconds = 0.0;   // steps, for a model that records them
};

// The arithmetic of a loaded model, in words: what gives the same bits has the same words.
std::string arithmetic_of(const LoadedModel& model);

// What nodes must have in common to serve `model` together, in words: sizes, EP settings, step
// limits, and the arithmetic, so that every rank gives the same bits.
std::string agreement_of(const LoadSettings& settings, const LoadedModel& model);

// Reads config.json and generation_config.json, checks settings and memory, maps and packs the
// weights. Blocks; uses its own threads. Fails with what is wrong: file or flag, value, way out.
Result<LoadedModel> load_model(const LoadSettings& settings, const Clock& clock);

}  // namespace pleiad::engine
