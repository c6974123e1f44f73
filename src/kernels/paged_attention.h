#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "device/dtype.h"
#include "kernels/context.h"

// Attention over a paged cache: grouped-query attention, and multi-head latent attention
// (DeepSeek-V2, arXiv 2405.04434) in absorbed form, which is one key of [latent | roped] and one
// value, the latent, that all heads share.
namespace pleiad::kernels {

// Tokens in one page of the KV cache.
inline constexpr std::int64_t kPageTokens = 64;

// Where a line of the cache has the keys, or the values, of its heads: head h has `width` elements
// from `offset + h * width` on.
struct HeadColumns {
  std::int64_t offset = 0;
  std::int64_t width = 0;
};

// One layer's cache: page p is [kPageTokens, line] elements of `dtype` (F32 or BF16) at base + p *
// page_stride bytes. 64-byte aligned.
struct AttentionPages {
  std::byte* base = nullptr;
  std::size_t page_stride = 0;
  device::DType dtype = device::DType::F32;
  std::int64_t line = 0;      // elements of one token
  std::int64_t kv_heads = 1;  // heads of keys and values; query heads come in as many equal groups
  HeadColumns keys;
  HeadColumns values;
};

// A line of [latent | roped key].
AttentionPages latent_pages(std::int64_t latent, std::int64_t rope);
// A line of all heads' keys, then all heads' values.
AttentionPages grouped_pages(std::int64_t kv_heads, std::int64_t key, std::int64_t value);

// Where a query row sits in its sequence. Token t of the sequence is in page page_table[t / 64] at
// line t % 64.
struct AttentionRow {
  const std::uint32_t* page_table = nullptr;
  std::int64_t position = 0;  // of the row itself; it sees no token after that
};

// A part of every row's elements: [rows, width], stride floats apart.
struct RowPart {
  const float* x = nullptr;
  std::int64_t stride = 0;
  std::int64_t width = 0;
};

// Writes the parts of each row, one after the other, into its line of the cache, rounded to the
// cache's dtype. REQUIRES: widths that add up to a line.
struct StoreLinesTask {
  std::array<RowPart, 2> parts;
  std::span<const AttentionRow> rows;
  AttentionPages pages;
};
void store_lines(const Context& context, const StoreLinesTask& task);

// A part of every query: [rows, heads, width] with strides in floats.
struct QueryPart {
  const float* x = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t width = 0;
};

struct AttentionTask {
  std::array<QueryPart, 2> query;      // one after the other; widths that add up to a key's
  std::span<const AttentionRow> rows;  // rows of one sequence stand together, positions ascending
  std::int64_t heads = 0;              // of queries, a multiple of pages.kv_heads
  float scale = 1.0F;
  std::int64_t window = 0;       // a row sees its last `window` tokens, itself included; 0: all
  const float* sinks = nullptr;  // [heads]: one more logit per head, without a value; or null
  AttentionPages pages;
  float* out = nullptr;      // [rows, heads, value width], dense, rounded activations
  std::span<float> scratch;  // at least paged_attention_scratch() floats
};

// Floats of scratch for a step of at most `rows` rows whose longest context is `context_tokens`.
// Of `pages` only the widths matter.
std::size_t paged_attention_scratch(
    int workers,
    std::int64_t rows,
    std::int64_t heads,
    const AttentionPages& pages,
    std::int64_t context_tokens
);

// out[r, h] = sum over the tokens t that r sees of softmax_t(scale * q[r, h] . k_t) v_t, where a
// sink adds e^sink to the softmax's denominator. Softmax in float, page by page (64 tokens from the
// sequence's start) with a running maximum, pages merged in a fixed order that depends on the
// position alone (DESIGN R2): the same bits for a row whether it came in a chunk, alone, or with
// its prefix already cached. Work is spread over rows, groups of heads and, for long contexts,
// fixed ranges of pages. Pages before a window are not read. Allocates nothing.
void paged_attention(const Context& context, const AttentionTask& task);

// The specification: scores, softmax and sum by plain loops in double.
void paged_attention_reference(const AttentionTask& task, Compute compute);

}  // namespace pleiad::kernels
