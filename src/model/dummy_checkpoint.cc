#include "model/dummy_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "model/decoder_weights.h"
#include "model/tensor_role.h"
#include "weights/quantize_matrix.h"

namespace pleiad::model {
namespace {

using device::DType;
using kernels::WeightFormat;
using weights::NoiseTensor;
using weights::QuantScheme;

std::optional<QuantScheme> scheme_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::Plain:
      return std::nullopt;
    case WeightFormat::Fp8Block:
      return QuantScheme::Fp8Block;
    case WeightFormat::Int8Channel:
      return QuantScheme::W8A8;
    case WeightFormat::Int4Group32:
      return QuantScheme::Int4Group32;
    case WeightFormat::MxFp4:
      return QuantScheme::MxFp4;
  }
  return std::nullopt;
}

// The spread of a scheme's codes as noise_tensor.h makes them.
float code_deviation(QuantScheme scheme) {
  switch (scheme) {
    case QuantScheme::W8A8:
      return 40.0F;
    case QuantScheme::Fp8Block:
      return 64.0F;
    case QuantScheme::Int4Group32:
      return 4.6F;  // of integers from -8 to 7, all as likely
    case QuantScheme::MxFp4:
      return 2.9F;  // of the E2M1 numbers, all as likely
  }
  return 1.0F;
}

// Which tensors publishers store in the config's format.
bool is_coded(const QuantizationConfig& config, const TensorWish& wish, std::int64_t layers) {
  const auto scheme = scheme_of(config.format);
  if (!scheme || !wish.codable || !weights::can_quantize(wish.shape, *scheme)) return false;
  if (config.coded) return std::ranges::binary_search(*config.coded, wish.name);
  const TensorRole role = role_of(wish.name, layers);
  const bool expert = role == TensorRole::Experts;
  if (weights::is_for_stacks(*scheme)) return expert && wish.shape.rank == 3;
  const bool linear = expert || role == TensorRole::Attention || role == TensorRole::DenseMlp ||
                      role == TensorRole::SharedExperts;
  const bool turned = wish.name.find(".kv_b_proj.") != std::string::npos;
  return linear && (!turned || *scheme == QuantScheme::Fp8Block);
}

// Extents of the tensors that take the place of a quantised one are the scheme's own; the first
// holds the codes, the second the scales.
void add_coded(const TensorWish& wish, QuantScheme scheme, std::vector<NoiseTensor>& out) {
  const float deviation = 1.0F / std::sqrt(static_cast<float>(wish.inputs));
  const float codes = code_deviation(scheme);
  const auto plans = weights::plan_quantized(wish.name, wish.shape, scheme);
  out.push_back(
      {.name = plans[0].name, .dtype = plans[0].dtype, .shape = plans[0].shape, .deviation = codes}
  );
  out.push_back(
      {.name = plans[1].name,
       .dtype = plans[1].dtype,
       .shape = plans[1].shape,
       .mean = deviation / codes}
  );
}

NoiseTensor plain(const TensorWish& wish, DType dtype) {
  NoiseTensor out{.name = wish.name, .dtype = dtype, .shape = wish.shape};
  if (wish.is_matrix) {
    out.deviation = 1.0F / std::sqrt(static_cast<float>(wish.inputs));
  } else if (wish.name.ends_with("norm.weight")) {
    out.mean = 1.0F;
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<weights::Checkpoint>>
make_dummy_checkpoint(const DecoderConfig& config, kernels::Compute compute) {
  const DType dtype = compute == kernels::Compute::Float32 ? DType::F32 : DType::BF16;
  const auto layers = static_cast<std::int64_t>(config.layers.size());
  const QuantizationConfig& quantization = config.quantization;
  const bool blocks = quantization.scale_rows == 128 && quantization.scale_columns == 128;
  if (quantization.format == WeightFormat::Fp8Block && !blocks) {
    return unsupported(
        "--load-format dummy makes FP8 weights in blocks of 128 x 128; config.json says {} x {}",
        quantization.scale_rows,
        quantization.scale_columns
    );
  }
  std::vector<NoiseTensor> tensors;
  for (const TensorWish& wish : tensor_wishes(config)) {
    if (is_coded(quantization, wish, layers)) {
      add_coded(wish, *scheme_of(quantization.format), tensors);
    } else {
      tensors.push_back(plain(wish, dtype));
    }
  }
  return weights::Checkpoint::made_up(tensors);
}

}  // namespace pleiad::model
