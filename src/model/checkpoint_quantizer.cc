#include "model/checkpoint_quantizer.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "model/decoder_config.h"
#include "model/model.h"
#include "model/model_config.h"
#include "model/tensor_role.h"
#include "weights/checkpoint.h"
#include "weights/checkpoint_digest.h"
#include "weights/read_file.h"
#include "weights/safetensors_writer.h"

namespace pleiad::model {
namespace {

using weights::QuantScheme;
using weights::TensorPlan;

constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20U;
// Bytes of source tensors that are rounded at a time.
constexpr std::uint64_t kBatchBytes = std::uint64_t{256} << 20U;
// What an unfinished folder was meant to become.
constexpr const char* kMarker = "quantize.incomplete";

// A tensor of the source, and what takes its place.
struct Item {
  std::string name;
  device::TensorView view;
  bool quantize = false;
  std::vector<TensorPlan> plans;

  [[nodiscard]] std::uint64_t bytes_after() const {
    std::uint64_t bytes = 0;
    for (const TensorPlan& plan : plans) {
      bytes += plan.bytes();
    }
    return bytes;
  }
};

struct Shard {
  std::string name;
  std::vector<Item> items;

  [[nodiscard]] std::vector<TensorPlan> plans() const {
    std::vector<TensorPlan> out;
    for (const Item& item : items) {
      out.insert(out.end(), item.plans.begin(), item.plans.end());
    }
    return out;
  }
};

bool is_float(device::DType dtype) {
  return dtype == device::DType::F32 || dtype == device::DType::BF16 || dtype == device::DType::F16;
}

bool to_quantize(
    const std::string& name,
    const device::TensorView& view,
    std::int64_t layers,
    QuantScheme scheme
) {
  const TensorRole role = role_of(name, layers);
  const bool eligible = role == TensorRole::Attention || role == TensorRole::DenseMlp ||
                        role == TensorRole::Experts || role == TensorRole::SharedExperts;
  if (!eligible || !is_float(view.dtype)) return false;
  if (weights::is_for_stacks(scheme)) {
    return role == TensorRole::Experts && weights::can_quantize(view.shape, scheme);
  }
  if (!name.ends_with(".weight")) return false;
  const bool is_transposed = name.find(".kv_b_proj.") != std::string::npos;
  if (is_transposed && scheme != QuantScheme::Fp8Block) return false;
  return weights::can_quantize(view.shape, scheme);
}

// The number of layers of a model that can be quantised.
Result<std::int64_t> layers_to_quantize(const Json& config, QuantScheme scheme) {
  if (config.find("quantization_config") != nullptr) {
    return unsupported("config.json: the model has a quantization_config already");
  }
  PLEIAD_TRY(architecture, find_architecture(config));
  PLEIAD_TRY(parsed, architecture->parse(config));
  if (parsed.names.stacked_experts && !weights::is_for_stacks(scheme)) {
    return unsupported(
        "{} keeps all experts of a layer in one tensor, for which readers of {} have no form; use "
        "--scheme mxfp4",
        architecture->name,
        weights::to_string(scheme)
    );
  }
  if (!parsed.names.stacked_experts && weights::is_for_stacks(scheme)) {
    return unsupported(
        "{} stores experts that lie in one tensor, as gpt-oss's do; {} keeps each in its own: use "
        "--scheme w8a8, fp8-block or int4-g32",
        weights::to_string(scheme),
        architecture->name
    );
  }
  return static_cast<std::int64_t>(parsed.layers.size());
}

Result<std::vector<Item>>
list_items(const weights::Checkpoint& checkpoint, std::int64_t layers, QuantScheme scheme) {
  std::vector<Item> items;
  for (const std::string& name : checkpoint.names()) {
    PLEIAD_TRY(view, checkpoint.tensor(name));
    Item item{.name = name, .view = view};
    item.quantize = to_quantize(name, view, layers, scheme);
    item.plans = item.quantize ? weights::plan_quantized(name, view.shape, scheme)
                               : std::vector<TensorPlan>{{name, view.dtype, view.shape}};
    items.push_back(std::move(item));
  }
  return items;
}

std::vector<Shard> split(std::vector<Item> items, std::uint64_t shard_bytes) {
  std::vector<Shard> shards(1);
  std::uint64_t bytes = 0;
  for (Item& item : items) {
    const std::uint64_t more = item.bytes_after();
    if (bytes > 0 && bytes + more > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().items.push_back(std::move(item));
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].name = shards.size() == 1
                         ? std::string("model.safetensors")
                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

Json weight_scheme(std::int64_t bits, const char* strategy) {
  Json out;
  out.set("num_bits", bits);
  out.set("type", "int");
  out.set("symmetric", true);
  out.set("strategy", strategy);
  return out;
}

// As Hugging Face's readers know the scheme.
Json quantization_config(QuantScheme scheme, JsonArray kept_modules) {
  Json out;
  if (scheme == QuantScheme::Fp8Block) {
    out.set("quant_method", "fp8");
    out.set("fmt", "e4m3");
    out.set("activation_scheme", "dynamic");
    out.set("weight_block_size", JsonArray{128, 128});
    out.set("modules_to_not_convert", std::move(kept_modules));
    return out;
  }
  if (scheme == QuantScheme::MxFp4) {
    out.set("quant_method", "mxfp4");
    out.set("modules_to_not_convert", std::move(kept_modules));
    return out;
  }
  const bool w8a8 = scheme == QuantScheme::W8A8;
  Json group;
  group.set("targets", JsonArray{"Linear"});
  Json weights = weight_scheme(w8a8 ? 8 : 4, w8a8 ? "channel" : "group");
  if (!w8a8) weights.set("group_size", 32);
  group.set("weights", std::move(weights));
  Json activations = weight_scheme(8, "token");
  activations.set("dynamic", true);
  group.set("input_activations", w8a8 ? std::move(activations) : Json());
  Json groups;
  groups.set("group_0", std::move(group));
  out.set("quant_method", "compressed-tensors");
  out.set("format", w8a8 ? "int-quantized" : "pack-quantized");
  out.set("quantization_status", "compressed");
  out.set("config_groups", std::move(groups));
  out.set("ignore", std::move(kept_modules));
  return out;
}

// Matrices that stay as they are, by module.
JsonArray kept_modules(const std::vector<Item>& items) {
  constexpr std::string_view kSuffix = ".weight";
  JsonArray out;
  for (const Item& item : items) {
    if (item.quantize || item.view.shape.rank != 2 || !item.name.ends_with(kSuffix)) continue;
    out.emplace_back(item.name.substr(0, item.name.size() - kSuffix.size()));
  }
  return out;
}

// Written under another name first, so that it is whole where it stands.
Result<void> write_text(const std::filesystem::path& path, const std::string& text) {
  const std::filesystem::path part = path.string() + ".part";
  std::ofstream(part, std::ios::binary) << text;
  std::error_code failed;
  const bool whole = std::filesystem::file_size(part, failed) == text.size() && !failed;
  if (whole) std::filesystem::rename(part, path, failed);
  if (!whole || failed) return error(ErrorKind::Internal, "cannot write {}", path.string());
  return {};
}

// Claims `to` for this attempt, or finds that an earlier attempt at the same did.
Result<void> claim(const std::filesystem::path& to, const std::string& purpose) {
  std::error_code failed;
  std::filesystem::create_directories(to, failed);
  if (failed) {
    return error(ErrorKind::Internal, "cannot create {}: {}", to.string(), failed.message());
  }
  if (std::filesystem::exists(to / "config.json")) {
    return invalid_input("{} already holds a model", to.string());
  }
  const auto marker = to / kMarker;
  if (!std::filesystem::exists(marker)) {
    if (!std::filesystem::is_empty(to)) return invalid_input("{} is not empty", to.string());
    return write_text(marker, purpose);
  }
  PLEIAD_TRY(found, weights::read_text_file(marker, kConfigBytesMax));
  if (found == purpose) return {};
  return invalid_input(
      "{} holds an unfinished model of another source or scheme; remove it", to.string()
  );
}

// Tokenizer, template and whatever else stands beside the weights.
Result<void> copy_other_files(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const bool weights = name.ends_with(".safetensors") || name.ends_with(".index.json");
    if (!entry.is_regular_file() || weights || name == "config.json") continue;
    std::error_code failed;
    const auto how = std::filesystem::copy_options::overwrite_existing;
    std::filesystem::copy_file(entry.path(), to / name, how, failed);
    if (failed) {
      return error(ErrorKind::Internal, "cannot copy {}: {}", name, failed.message());
    }
  }
  return {};
}

// Writes shards one after the other.
class ShardWriter {
 public:
  ShardWriter(
      const weights::Checkpoint& checkpoint,
      std::filesystem::path to,
      const QuantizeOptions& options
  )
      : checkpoint_(checkpoint),
        to_(std::move(to)),
        options_(options),
        total_(checkpoint.total_bytes()) {}

  // True when an earlier attempt had written it.
  Result<bool> write(const Shard& shard) {
    const std::vector<TensorPlan> plans = shard.plans();
    if (weights::holds_tensors(to_ / shard.name, plans)) {
      for (const Item& item : shard.items) {
        done_ += item.view.bytes.size();
      }
      tell();
      return true;
    }
    PLEIAD_TRY(file, weights::SafetensorsWriter::create(to_ / shard.name, plans));
    for (std::size_t begin = 0; begin < shard.items.size();) {
      const std::size_t end = batch_end(shard, begin);
      PLEIAD_TRY(write_batch(std::span(shard.items).subspan(begin, end - begin), file));
      begin = end;
    }
    PLEIAD_TRY(file.finish());
    return false;
  }

 private:
  [[nodiscard]] static std::size_t batch_end(const Shard& shard, std::size_t begin) {
    std::uint64_t bytes = 0;
    std::size_t end = begin;
    while (end < shard.items.size() && (end == begin || bytes < kBatchBytes)) {
      bytes += shard.items[end++].view.bytes.size();
    }
    return end;
  }

  using Rounded = Result<std::vector<std::vector<std::byte>>>;

  Result<void> write_batch(std::span<const Item> items, weights::SafetensorsWriter& file) {
    std::vector<std::optional<Rounded>> rounded(items.size());
    if (weights::is_for_stacks(options_.scheme)) {
      for (std::size_t i = 0; i < items.size(); ++i) {
        if (items[i].quantize) rounded[i] = round_stack(items[i].view);
      }
    } else {
      options_.pool->parallel_for(items.size(), [&](std::size_t i) {
        if (items[i].quantize) {
          rounded[i] = weights::quantize_matrix(items[i].view, options_.scheme);
        }
      });
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      PLEIAD_TRY(append(items[i], rounded[i], file));
      checkpoint_.release(items[i].view);
      done_ += items[i].view.bytes.size();
    }
    tell();
    return {};
  }

  // Matrices of a stack, each by one worker, put behind each other.
  Rounded round_stack(const device::TensorView& stack) const {
    const auto count = static_cast<std::size_t>(stack.shape[0]);
    const std::size_t bytes = stack.bytes.size() / count;
    std::vector<std::optional<Rounded>> rounded(count);
    options_.pool->parallel_for(count, [&](std::size_t i) {
      const device::TensorView matrix = {
          .bytes = stack.bytes.subspan(i * bytes, bytes),
          .dtype = stack.dtype,
          .shape = {.extents = {stack.shape[1], stack.shape[2]}, .rank = 2}};
      rounded[i] = weights::quantize_matrix(matrix, options_.scheme);
    });
    std::vector<std::vector<std::byte>> out(2);
    for (std::size_t i = 0; i < count; ++i) {
      if (!rounded[i]->ok()) {
        return with_context(std::move(*rounded[i]).error(), fmt::format("matrix {}", i));
      }
      for (std::size_t part = 0; part < out.size(); ++part) {
        const std::vector<std::byte>& more = (**rounded[i])[part];
        out[part].insert(out[part].end(), more.begin(), more.end());
      }
      rounded[i].reset();
    }
    return out;
  }

  static Result<void>
  append(const Item& item, std::optional<Rounded>& rounded, weights::SafetensorsWriter& file) {
    if (!rounded) return file.append(item.view.bytes);
    if (!rounded->ok()) return with_context(std::move(*rounded).error(), item.name);
    for (const std::vector<std::byte>& bytes : **rounded) {
      PLEIAD_TRY(file.append(bytes));
    }
    rounded.reset();
    return {};
  }

  void tell() const {
    if (options_.progress) options_.progress(done_, total_);
  }

  const weights::Checkpoint& checkpoint_;
  std::filesystem::path to_;
  const QuantizeOptions& options_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
};

Result<void> write_index(const std::vector<Shard>& shards, const std::filesystem::path& to) {
  if (shards.size() == 1) return {};
  Json map;
  std::uint64_t bytes = 0;
  for (const Shard& shard : shards) {
    for (const TensorPlan& plan : shard.plans()) {
      map.set(plan.name, shard.name);
      bytes += plan.bytes();
    }
  }
  Json metadata;
  metadata.set("total_size", static_cast<std::int64_t>(bytes));
  Json index;
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(map));
  return write_text(to / "model.safetensors.index.json", index.dump());
}

}  // namespace

Result<QuantizeReport> quantize_checkpoint(
    const std::filesystem::path& from,
    const std::filesystem::path& to,
    const QuantizeOptions& options
) {
  PLEIAD_TRY(config, read_model_config(from));
  PLEIAD_TRY(layers, layers_to_quantize(config, options.scheme));
  PLEIAD_TRY(checkpoint, weights::Checkpoint::open(from));
  PLEIAD_TRY(items, list_items(*checkpoint, layers, options.scheme));
  PLEIAD_TRY(digest, weights::checkpoint_digest(from, *checkpoint));
  PLEIAD_TRY(claim(to, fmt::format("{} of {}\n", weights::to_string(options.scheme), digest)));

  QuantizeReport report;
  report.bytes_before = checkpoint->total_bytes();
  for (const Item& item : items) {
    ++(item.quantize ? report.quantized : report.kept);
    report.bytes_after += item.bytes_after();
  }
  config.set("quantization_config", quantization_config(options.scheme, kept_modules(items)));
  const std::vector<Shard> shards = split(std::move(items), options.shard_bytes);
  ShardWriter writer(*checkpoint, to, options);
  for (const Shard& shard : shards) {
    PLEIAD_TRY(was_there, writer.write(shard));
    report.resumed += was_there ? 1 : 0;
  }
  PLEIAD_TRY(write_index(shards, to));
  PLEIAD_TRY(copy_other_files(from, to));
  std::filesystem::remove(to / kMarker);
  PLEIAD_TRY(write_text(to / "config.json", config.dump()));
  return report;
}

}  // namespace pleiad::model
