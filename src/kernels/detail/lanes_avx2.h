#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

// The operations of lanes_portable.h on AVX2 and FMA: two registers of 8 lanes. For files compiled
// with those flags only; calls nothing that other files might share.
namespace pleiad::kernels::detail {
namespace {

struct Avx2 {
  static constexpr int kWidth = 8;
  static constexpr int kRegs = 2;
  static constexpr int kRowTile = 6;
  static constexpr int kTileRegs = 12;
  static constexpr int kDecodeRowTile = 2;
  static constexpr int kDecodeTileRegs = 4;
  static constexpr int kIntRowTile = 4;
  static constexpr int kIntTileRegs = 8;

  using Reg = __m256;
  using Pairs = __m256i;

  static Reg broadcast(float value) { return _mm256_set1_ps(value); }
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Reg a) { _mm256_storeu_ps(p, a); }
  static __m256i first_lanes(std::int64_t count) {
    const int clamped = count > kWidth ? kWidth : static_cast<int>(count);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(clamped), lane);
  }
  // Whole registers take the plain path: masked stores cost some twenty times as much on Zen.
  static Reg load_first(const float* p, std::int64_t count, float fill) {
    if (count >= kWidth) return load(p);
    const __m256i mask = first_lanes(count);
    return _mm256_blendv_ps(
        _mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask)
    );
  }
  static void store_first(float* p, Reg a, std::int64_t count) {
    if (count >= kWidth) return store(p, a);
    _mm256_maskstore_ps(p, first_lanes(count), a);
  }
  static Pairs load_pairs(const std::byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Reg even(Pairs a) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)); }
  static Reg odd(Pairs a) {
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32(static_cast<int>(0xFFFF0000U)))
    );
  }
  // 8 BF16 numbers, unaligned.
  static Reg load_bf16(const std::byte* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }

  template <int kPlace>
  static Reg e4m3(Pairs words) {
    // The code to the top, then its sign spread over the exponent's upper bits and masked off.
    const __m256i top = _mm256_srai_epi32(_mm256_slli_epi32(words, 24 - 8 * kPlace), 4);
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0x87F00000U));
    return _mm256_castsi256_ps(_mm256_and_si256(top, mask));
  }
  template <int kPlace>
  static Reg int4(Pairs words) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 28 - 4 * kPlace), 28));
  }
  template <int kPlace>
  static Reg e2m1(Pairs words) {
    // Doubled values fit bytes: those of every second place come from one look-up.
    const __m256i doubled = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
    );
    const __m256i places = kPlace % 2 == 0 ? words : _mm256_srli_epi32(words, 4);
    const __m256i codes = _mm256_and_si256(places, _mm256_set1_epi8(0x0F));
    const __m256i values = _mm256_shuffle_epi8(doubled, codes);
    const __m256i top = _mm256_slli_epi32(values, 24 - kPlace / 2 * 8);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(top, 24));
  }
  static Reg load_e8m0(const std::byte* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23);
    // 0 is 2^-127, a denormal.
    return _mm256_castsi256_ps(_mm256_max_epi32(bits, _mm256_set1_epi32(0x00400000)));
  }

  using Ints = __m256i;
  struct Bytes {
    __m256i even;
    __m256i odd;
  };
  static constexpr int kQuadBytes = 8;

  static void store_quad(const std::int32_t* q, std::byte* out) {
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
    const __m128i ordered = _mm_shuffle_epi32(four, 0xD8);  // 0, 2, 1, 3
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packs_epi32(ordered, ordered));
  }
  static Bytes split_bytes(Pairs words) {
    return {_mm256_and_si256(words, _mm256_set1_epi32(0x00FF00FF)), _mm256_srli_epi16(words, 8)};
  }
  static Ints dot(Ints sum, Bytes w, const std::byte* quad) {
    std::int32_t x[2];
    __builtin_memcpy(x, quad, sizeof(x));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.even, _mm256_set1_epi32(x[0])));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w.odd, _mm256_set1_epi32(x[1])));
  }
  static Ints add_ints(Ints a, std::int32_t b) { return _mm256_add_epi32(a, _mm256_set1_epi32(b)); }
  static Reg to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }
  static Ints bits_of(Reg a) { return _mm256_castps_si256(a); }
  static Reg from_bits(Ints a) { return _mm256_castsi256_ps(a); }

  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  static Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  static Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static Reg where_less(Reg x, Reg limit, Reg a, Reg b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
  }
  static Reg round_bf16(Reg a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
    const __m256i lowest = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i carried =
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), lowest);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const Reg nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    const Reg picked =
        _mm256_blendv_ps(_mm256_castsi256_ps(carried), _mm256_castsi256_ps(quiet), nan);
    return _mm256_and_ps(picked, _mm256_castsi256_ps(high));
  }
  static Reg times_pow2(Reg p, Reg biased) {
    const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(biased), _mm256_set1_epi32(0x4B400000));
    const __m256i half = _mm256_srai_epi32(n, 1);
    const __m256i rest = _mm256_sub_epi32(n, half);
    const __m256i one = _mm256_set1_epi32(127);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23)));
    return _mm256_mul_ps(
        p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23))
    );
  }
  static float reduce_add(const Reg* a) { return add_8(_mm256_add_ps(a[0], a[1])); }
  static float reduce_max(const Reg* a) { return max_8(_mm256_max_ps(a[0], a[1])); }

  static float add_8(__m256 a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float max_8(__m256 a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  static void transpose(const float* in, std::int64_t stride, float* out) {
    for (int r = 0; r < 16; r += 8) {
      for (int c = 0; c < 16; c += 8) {
        __m256 rows[8];
        for (int i = 0; i < 8; ++i) {
          rows[i] = _mm256_loadu_ps(in + (r + i) * stride + c);
        }
        transpose_8x8(rows, out + c * 16 + r);
      }
    }
  }
  static void transpose_bf16(const std::byte* in, std::int64_t stride, float* out) {
    for (int r = 0; r < 16; r += 8) {
      for (int c = 0; c < 16; c += 8) {
        __m256 rows[8];
        for (int i = 0; i < 8; ++i) {
          rows[i] = load_bf16(in + ((r + i) * stride + c) * 2);
        }
        transpose_8x8(rows, out + c * 16 + r);
      }
    }
  }
  // Stores column c of the 8 rows at out + 16 * c.
  static void transpose_8x8(const __m256* rows, float* out) {
    __m256 pairs[8];
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
      pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    __m256 quads[8];
    for (int i = 0; i < 8; i += 4) {
      quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
      quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
      quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
      quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(out + i * 16, _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20));
      _mm256_storeu_ps(out + (i + 4) * 16, _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31));
    }
  }
};

}  // namespace
}  // namespace pleiad::kernels::detail
