#pragma once

#include "base/json.h"
#include "base/result.h"
#include "model/decoder_config.h"

// One function per family, each in the file of its name: what a config.json of that family
// describes, in either of Hugging Face's spellings. Fail naming the first key that is missing, out
// of range, or changes the maths in a way that is not computed here.
namespace pleiad::model {

// DeepSeek-V2 and V2-Lite (arXiv 2405.04434): multi-head latent attention; a softmax gate, greedy
// or limited to groups; shared experts.
Result<DecoderConfig> parse_deepseek_v2(const Json& config);

// DeepSeek-V3 (arXiv 2412.19437), R1, V3.1, Kimi-K2: the same attention; a sigmoid gate with
// correction bias, limited to groups; shared experts.
Result<DecoderConfig> parse_deepseek_v3(const Json& config);

// GLM-4.5 and its Air: grouped-query attention with biases, partial rotation and, at will, normed
// queries and keys; DeepSeek-V3's gate; shared experts.
Result<DecoderConfig> parse_glm4_moe(const Json& config);

// gpt-oss: grouped-query attention with sinks, every other layer windowed; a softmax over the
// chosen experts; clamped activations and biases everywhere.
Result<DecoderConfig> parse_gpt_oss(const Json& config);

// Mixtral (arXiv 2401.04088): grouped-query attention, a sliding window where the config has one.
Result<DecoderConfig> parse_mixtral(const Json& config);

// Qwen3-MoE (arXiv 2505.09388): grouped-query attention with normed queries and keys; no shared
// expert.
Result<DecoderConfig> parse_qwen3_moe(const Json& config);

}  // namespace pleiad::model
