#include "engine/load.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "device/buffer.h"
#include "device/cpu_isa.h"
#include "engine/capacity.h"
#include "model/config_reader.h"
#include "weights/checkpoint.h"
#include "weights/read_file.h"

namespace pleiad::engine {
namespace {

constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20U;

Result<Json> read_json(const std::filesystem::path& path) {
  PLEIAD_TRY(text, weights::read_text_file(path, kConfigBytesMax));
  auto parsed = parse_json(text);
  if (!parsed.ok()) return with_context(std::move(parsed).error(), path.string());
  return std::move(*parsed);
}

Result<void> check_settings(const LoadSettings& s) {
  const auto at_least = [](std::string_view flag, std::int64_t value, std::int64_t low
                        ) -> Result<void> {
    if (value >= low) return {};
    return invalid_input("{} must be at least {}, got {}", flag, low, value);
  };
  PLEIAD_TRY(at_least("--threads", s.threads, 0));
  PLEIAD_TRY(at_least("--max-model-len", s.max_model_len, 0));
  PLEIAD_TRY(at_least("--max-num-seqs", s.max_num_seqs, 1));
  PLEIAD_TRY(at_least("--max-num-batched-tokens", s.max_num_batched_tokens, s.max_num_seqs));
  PLEIAD_TRY(at_least("--chunked-prefill-size", s.chunked_prefill_size, 1));
  PLEIAD_TRY(at_least("--max-waiting", s.max_waiting, 1));
  if (!(s.mem_fraction_static > 0.0 && s.mem_fraction_static <= 1.0)) {
    return invalid_input("--mem-fraction-static must be in (0, 1], got {}", s.mem_fraction_static);
  }
  return {};
}

model::Compute choose_compute(ComputeChoice choice, const Json& config) {
  if (choice == ComputeChoice::Float32) return model::Compute::Float32;
  if (choice == ComputeChoice::BFloat16) return model::Compute::BFloat16;
  model::ConfigReader reader(config);
  const std::string dtype = reader.text_or("torch_dtype", reader.text_or("dtype", "bfloat16"));
  return dtype == "float32" ? model::Compute::Float32 : model::Compute::BFloat16;
}

// End-of-sequence ids: generation_config.json's when it has any, else config.json's.
Result<std::vector<TokenId>>
eos_tokens(const Json& config, const std::filesystem::path& folder, std::int64_t vocabulary) {
  model::ConfigReader reader(config);
  std::vector<std::int64_t> ids = reader.ids("eos_token_id");
  PLEIAD_TRY(reader.result());
  const auto path = folder / "generation_config.json";
  if (std::filesystem::exists(path)) {
    PLEIAD_TRY(generation, read_json(path));
    model::ConfigReader generation_reader(generation);
    auto better = generation_reader.ids("eos_token_id");
    PLEIAD_TRY(generation_reader.result());
    if (!better.empty()) ids = std::move(better);
  }
  std::vector<TokenId> out;
  for (const std::int64_t id : ids) {
    if (id >= vocabulary) {
      return invalid_input("eos_token_id {} is not below vocab_size {}", id, vocabulary);
    }
    out.push_back(static_cast<TokenId>(id));
  }
  return out;
}

sched::SchedulerOptions scheduler_options(const LoadSettings& s, const Capacity& capacity) {
  return {
      .pages = capacity.pages,
      .running_max = s.max_num_seqs,
      .waiting_max = s.max_waiting,
      .step_tokens_max = s.max_num_batched_tokens,
      .chunk_tokens_max = s.chunked_prefill_size,
      .logit_rows_max = s.max_num_seqs,
      .sequence_tokens_max = capacity.model_tokens,
      .prefix_cache = s.prefix_cache,
  };
}

}  // namespace

Result<LoadedModel> load_model(const LoadSettings& settings, const Clock& clock) {
  const Nanoseconds begin = clock.now();
  PLEIAD_TRY(check_settings(settings));
  if (!std::filesystem::is_directory(settings.model)) {
    return not_found("{} is not a model folder (no such directory)", settings.model.string());
  }
  PLEIAD_TRY(config, read_json(settings.model / "config.json"));
  PLEIAD_TRY(architecture, model::find_architecture(config));
  LoadedModel out;
  out.architecture = architecture->name;
  out.compute = choose_compute(settings.dtype, config);
  out.isa = settings.isa.value_or(device::detect_cpu_isa());
  PLEIAD_TRY(shape, architecture->shape(config, out.compute));
  PLEIAD_TRY(eos, eos_tokens(config, settings.model, shape.vocabulary));
  PLEIAD_TRY(checkpoint, weights::Checkpoint::open(settings.model));
  const Nanoseconds opened = clock.now();

  const int threads = settings.threads > 0 ? settings.threads : device::available_processors();
  const std::size_t memory_bytes = device::memory_available_bytes();
  out.parts.pool = std::make_unique<device::ThreadPool>(threads);
  const std::int64_t longest =
      settings.max_model_len > 0 ? settings.max_model_len : shape.positions_max;
  PLEIAD_TRY(
      model,
      architecture->load(
          config,
          *checkpoint,
          {
              .context = {.pool = out.parts.pool.get(), .isa = out.isa, .compute = out.compute},
              .limits =
                  {
                      .rows_max = settings.max_num_batched_tokens,
                      .logit_rows_max = settings.max_num_seqs,
                      .context_max = longest,
                  },
              .weight_bytes_max = static_cast<std::size_t>(
                  static_cast<double>(memory_bytes) * settings.mem_fraction_static
              ),
              .progress = settings.progress,
          }
      )
  );
  out.memory = model->memory();
  const std::int64_t logits_bytes = settings.max_num_seqs * shape.vocabulary * 4;
  PLEIAD_TRY(
      capacity,
      plan_capacity({
          .memory_bytes = memory_bytes,
          .memory_fraction = settings.mem_fraction_static,
          .kv_bytes = settings.kv_cache_bytes,
          .resident_bytes =
              out.memory.weights + out.memory.scratch + static_cast<std::size_t>(logits_bytes),
          .page_bytes = shape.cache.page_bytes_all_layers(),
          .model_tokens = settings.max_model_len,
          .positions_max = shape.positions_max,
          .sequences_max = settings.max_num_seqs,
      })
  );
  PLEIAD_TRY(cache, kv::PagedCache::allocate(shape.cache, capacity.pages));
  out.parts.cache = std::move(cache);
  out.parts.model = std::move(model);
  out.parts.limits = scheduler_options(settings, capacity);
  out.parts.eos_tokens = std::move(eos);
  out.parts.model_name = settings.model_name;
  out.positions_max = shape.positions_max;
  out.read_seconds = to_seconds(opened - begin);
  out.pack_seconds = to_seconds(clock.now() - opened);
  return out;
}

}  // namespace pleiad::engine
