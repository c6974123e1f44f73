#include "tests/model/tiny_checkpoint.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/random.h"
#include "tests/model/reference_config.h"
#include "tests/weights/files.h"

namespace pleiad::model::reference {
namespace {

using Shape = std::vector<std::int64_t>;

// IEEE half precision, towards zero; what is too small becomes zero.
std::uint16_t half_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const int exponent = static_cast<int>((bits >> 23U) & 0xFFU) - 112;
  PLEIAD_CHECK(exponent < 31, "too large for half precision");
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  if (exponent <= 0) return static_cast<std::uint16_t>(sign);
  const auto magnitude = (static_cast<std::uint32_t>(exponent) << 10U) | ((bits >> 13U) & 0x3FFU);
  return static_cast<std::uint16_t>(sign | magnitude);
}

void append_bytes(std::uint32_t value, std::size_t count, std::string& out) {
  for (std::size_t i = 0; i < count; ++i) {
    out += static_cast<char>((value >> (8 * i)) & 0xFFU);
  }
}

class Writer {
 public:
  explicit Writer(const TinyOptions& options) : options_(options), random_(options.seed) {}

  // Entries of mean 0 that keep the size of what they multiply; `in` is the width they sum over.
  void matrix(const std::string& name, const Shape& shape, std::int64_t in) {
    tensor(name, shape, {.deviation = 1 / std::sqrt(static_cast<double>(in))});
  }
  void matrix(const std::string& name, std::int64_t out, std::int64_t in) {
    matrix(name, {out, in}, in);
  }
  void norm(const std::string& name, std::int64_t width) {
    tensor(name, {width}, {.mean = 1, .deviation = 0.2});
  }
  void bias(const std::string& name, const Shape& shape) {
    tensor(name, shape, {.deviation = 0.5});
  }
  void sinks(const std::string& name, std::int64_t heads) {
    tensor(name, {heads}, {.mean = options_.sink, .deviation = 1});
  }
  // A stack of matrices stored [in, out], or in blocks where the folder is of MXFP4.
  void experts(const std::string& name, std::int64_t count, std::int64_t in, std::int64_t out) {
    if (!is_mxfp4()) return matrix(name, {count, in, out}, in);
    PLEIAD_CHECK(in % 32 == 0, "MXFP4 has blocks of 32");
    bytes(name + "_blocks", {count, out, in / 32, 16}, 0, 255);
    bytes(name + "_scales", {count, out, in / 32}, 121, 124);
  }
  void score_bias(const std::string& name, std::int64_t experts) {
    tensor(name, {experts}, {.mean = options_.score_bias, .deviation = 0.3, .dtype = "F32"});
  }

  [[nodiscard]] std::string file() const {
    return weights::testing::safetensors_bytes("{" + header_ + "}", 0) + bytes_;
  }

 private:
  [[nodiscard]] bool is_mxfp4() const { return options_.dtype == "MXFP4"; }

  struct Spread {
    double mean = 0;
    double deviation = 1;
    std::string_view dtype;  // empty: the folder's
  };

  void tensor(const std::string& name, const Shape& shape, const Spread& spread) {
    const std::string_view usual = is_mxfp4() ? "BF16" : options_.dtype;
    const std::string_view dtype = spread.dtype.empty() ? usual : spread.dtype;
    const std::int64_t count = elements(shape);
    const std::size_t begin = bytes_.size();
    for (std::int64_t i = 0; i < count; ++i) {
      append(dtype, static_cast<float>(spread.mean + spread.deviation * random_.normal()));
    }
    name_bytes(name, dtype, shape, begin);
  }

  void bytes(const std::string& name, const Shape& shape, std::int64_t low, std::int64_t high) {
    const std::size_t begin = bytes_.size();
    for (std::int64_t i = 0; i < elements(shape); ++i) {
      bytes_ += static_cast<char>(random_.between(low, high));
    }
    name_bytes(name, "U8", shape, begin);
  }

  static std::int64_t elements(const Shape& shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) {
      count *= extent;
    }
    return count;
  }

  // Everything written since `begin` is tensor `name`.
  void name_bytes(
      const std::string& name,
      std::string_view dtype,
      const Shape& shape,
      std::size_t begin
  ) {
    header_ += fmt::format(
        R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
        header_.empty() ? "" : ",",
        name,
        dtype,
        fmt::join(shape, ","),
        begin,
        bytes_.size()
    );
  }

  void append(std::string_view dtype, float value) {
    if (dtype == "F16") return append_bytes(half_bits(value), 2, bytes_);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (dtype == "F32") return append_bytes(bits, 4, bytes_);
    PLEIAD_CHECK(dtype == "BF16", dtype);
    append_bytes(bits >> 16U, 2, bytes_);
  }

  TinyOptions options_;
  Random random_;
  std::string header_;
  std::string bytes_;
};

void write_latent_attention(const Config& config, const std::string& prefix, Writer& out) {
  const Latent& latent = config.latent;
  const std::int64_t q_width = config.heads * (latent.nope + config.rope.width);
  if (latent.q_rank > 0) {
    out.matrix(prefix + "q_a_proj.weight", latent.q_rank, config.hidden);
    out.norm(prefix + "q_a_layernorm.weight", latent.q_rank);
    out.matrix(prefix + "q_b_proj.weight", q_width, latent.q_rank);
  } else {
    out.matrix(prefix + "q_proj.weight", q_width, config.hidden);
  }
  const std::int64_t kv_width = config.heads * (latent.nope + latent.value);
  out.matrix(
      prefix + "kv_a_proj_with_mqa.weight", latent.kv_rank + config.rope.width, config.hidden
  );
  out.norm(prefix + "kv_a_layernorm.weight", latent.kv_rank);
  out.matrix(prefix + "kv_b_proj.weight", kv_width, latent.kv_rank);
  out.matrix(prefix + "o_proj.weight", config.hidden, config.heads * latent.value);
}

void write_grouped_attention(const Config& config, const std::string& prefix, Writer& out) {
  const std::int64_t q_width = config.heads * config.head;
  const std::int64_t kv_width = config.kv_heads * config.head;
  out.matrix(prefix + "q_proj.weight", q_width, config.hidden);
  out.matrix(prefix + "k_proj.weight", kv_width, config.hidden);
  out.matrix(prefix + "v_proj.weight", kv_width, config.hidden);
  out.matrix(prefix + "o_proj.weight", config.hidden, q_width);
  if (config.qkv_bias) {
    out.bias(prefix + "q_proj.bias", {q_width});
    out.bias(prefix + "k_proj.bias", {kv_width});
    out.bias(prefix + "v_proj.bias", {kv_width});
  }
  if (config.out_bias) out.bias(prefix + "o_proj.bias", {config.hidden});
  if (config.qk_norm) {
    out.norm(prefix + "q_norm.weight", config.head);
    out.norm(prefix + "k_norm.weight", config.head);
  }
  if (config.family == Family::GptOss) out.sinks(prefix + "sinks", config.heads);
}

void write_swiglu(
    const Config& config,
    const std::string& prefix,
    std::int64_t width,
    Writer& out
) {
  out.matrix(prefix + "gate_proj.weight", width, config.hidden);
  out.matrix(prefix + "up_proj.weight", width, config.hidden);
  out.matrix(prefix + "down_proj.weight", config.hidden, width);
}

void write_gpt_oss_experts(const Config& config, const std::string& prefix, Writer& out) {
  const auto& [count, topk, width, shared, groups, topk_groups, normalise, scale] = config.experts;
  out.matrix(prefix + "router.weight", count, config.hidden);
  out.bias(prefix + "router.bias", {count});
  out.experts(prefix + "experts.gate_up_proj", count, config.hidden, 2 * width);
  out.bias(prefix + "experts.gate_up_proj_bias", {count, 2 * width});
  out.experts(prefix + "experts.down_proj", count, width, config.hidden);
  out.bias(prefix + "experts.down_proj_bias", {count, config.hidden});
}

void write_mixtral_experts(const Config& config, const std::string& prefix, Writer& out) {
  const std::int64_t width = config.experts.width;
  out.matrix(prefix + "gate.weight", config.experts.count, config.hidden);
  for (std::int64_t e = 0; e < config.experts.count; ++e) {
    const std::string name = fmt::format("{}experts.{}.", prefix, e);
    out.matrix(name + "w1.weight", width, config.hidden);
    out.matrix(name + "w3.weight", width, config.hidden);
    out.matrix(name + "w2.weight", config.hidden, width);
  }
}

void write_experts(const Config& config, const std::string& prefix, Writer& out) {
  const Experts& experts = config.experts;
  out.matrix(prefix + "gate.weight", experts.count, config.hidden);
  if (config.family == Family::DeepseekV3 || config.family == Family::Glm4Moe) {
    out.score_bias(prefix + "gate.e_score_correction_bias", experts.count);
  }
  for (std::int64_t e = 0; e < experts.count; ++e) {
    write_swiglu(config, fmt::format("{}experts.{}.", prefix, e), experts.width, out);
  }
  if (experts.shared_width > 0) {
    write_swiglu(config, prefix + "shared_experts.", experts.shared_width, out);
  }
}

void write_mlp(const Config& config, const std::string& prefix, bool moe, Writer& out) {
  if (!moe) return write_swiglu(config, prefix + "mlp.", config.dense_width, out);
  switch (config.family) {
    case Family::GptOss:
      return write_gpt_oss_experts(config, prefix + "mlp.", out);
    case Family::Mixtral:
      return write_mixtral_experts(config, prefix + "block_sparse_moe.", out);
    case Family::DeepseekV2:
    case Family::DeepseekV3:
    case Family::Glm4Moe:
    case Family::Qwen3Moe:
      return write_experts(config, prefix + "mlp.", out);
  }
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  PLEIAD_CHECK(out.good(), path.string());
}

}  // namespace

void write_tiny_checkpoint(
    const std::filesystem::path& folder,
    const Json& config_json,
    const TinyOptions& options
) {
  const Config config = read_config(config_json);
  Writer out(options);
  out.matrix("model.embed_tokens.weight", {config.vocabulary, config.hidden}, 1);
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string prefix = layer_prefix(i);
    out.norm(prefix + "input_layernorm.weight", config.hidden);
    out.norm(prefix + "post_attention_layernorm.weight", config.hidden);
    if (config.is_deepseek()) {
      write_latent_attention(config, prefix + "self_attn.", out);
    } else {
      write_grouped_attention(config, prefix + "self_attn.", out);
    }
    write_mlp(config, prefix, config.layers[i].moe, out);
  }
  out.norm("model.norm.weight", config.hidden);
  if (!config.tied) out.matrix("lm_head.weight", config.vocabulary, config.hidden);
  write_file(folder / "config.json", config_json.dump());
  write_file(folder / "model.safetensors", out.file());
}

}  // namespace pleiad::model::reference
