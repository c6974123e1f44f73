#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/dtype.h"
#include "kernels/context.h"

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) in absorbed form over a paged cache.
namespace pleiad::kernels {

// Tokens in one page of the KV cache.
inline constexpr std::int64_t kPageTokens = 64;

// One layer's cache: page p is [kPageTokens, latent + rope] elements of `dtype` (F32 or BF16),
// normalised latent first, then the roped key, at base + p * page_stride bytes. 64-byte aligned.
struct LatentPages {
  std::byte* base = nullptr;
  std::size_t page_stride = 0;
  device::DType dtype = device::DType::F32;
  std::int64_t latent = 0;
  std::int64_t rope = 0;
};

// Where a query row sits in its sequence. Token t of the sequence is in page page_table[t / 64] at
// line t % 64.
struct AttentionRow {
  const std::uint32_t* page_table = nullptr;
  std::int64_t position = 0;  // of the row itself; it sees tokens 0..position
};

// Writes each row's [latent | roped key] into its line of the cache, rounded to the cache's dtype.
struct StoreLatentTask {
  const float* latent = nullptr;  // [rows, latent], latent_stride apart
  std::int64_t latent_stride = 0;
  const float* rope = nullptr;  // [rows, rope], rope_stride apart
  std::int64_t rope_stride = 0;
  std::span<const AttentionRow> rows;
  LatentPages pages;
};
void store_latent(const Context& context, const StoreLatentTask& task);

struct LatentAttentionTask {
  const float* q_latent = nullptr;  // [rows, heads, latent], dense: q_nope W_UK
  const float* q_rope = nullptr;    // [rows, heads, rope], strides below
  std::int64_t q_rope_row_stride = 0;
  std::int64_t q_rope_head_stride = 0;
  std::span<const AttentionRow> rows;  // rows of one sequence stand together, positions ascending
  std::int64_t heads = 0;
  float scale = 1.0F;
  LatentPages pages;
  float* out = nullptr;      // [rows, heads, latent], dense, rounded activations
  std::span<float> scratch;  // at least latent_attention_scratch() floats
};

// Floats of scratch for a step of at most `rows` rows whose longest context is `context_tokens`.
std::size_t latent_attention_scratch(
    int workers,
    std::int64_t rows,
    std::int64_t heads,
    std::int64_t latent,
    std::int64_t rope,
    std::int64_t context_tokens
);

// out[r, h] = sum over t <= position of softmax_t(scale * (q_latent[r,h] . c_t + q_rope[r,h] .
// k_t)) c_t. Softmax in float, page by page (64 tokens from the sequence's start) with a running
// maximum, pages merged in a fixed order that depends on the position alone (DESIGN R2): the same
// bits for a row whether it came in a chunk, alone, or with its prefix already cached. Work is
// spread over rows and, for long contexts, over fixed ranges of pages. Allocates nothing.
void latent_attention(const Context& context, const LatentAttentionTask& task);

// The specification: scores, softmax and sum by plain loops in double.
void latent_attention_reference(const LatentAttentionTask& task, Compute compute);

}  // namespace pleiad::kernels
