#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "kernels/detail/lanes_avx2.h"

// The operations of lanes_portable.h on AVX-512 F, BW, DQ, VL: one register of 16 lanes.
namespace pleiad::kernels::detail {
namespace {

struct Avx512 {
  static constexpr int kWidth = 16;
  static constexpr int kRegs = 1;
  static constexpr int kRowTile = 12;
  static constexpr int kTileRegs = 24;
  static constexpr int kDecodeRowTile = 4;
  static constexpr int kDecodeTileRegs = 8;
  static constexpr int kIntRowTile = 8;
  static constexpr int kIntTileRegs = 16;

  using Reg = __m512;
  using Pairs = __m512i;

  static Reg broadcast(float value) { return _mm512_set1_ps(value); }
  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Reg a) { _mm512_storeu_ps(p, a); }
  static __mmask16 first_lanes(std::int64_t count) {
    if (count <= 0) return 0;
    return static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U);
  }
  static Reg load_first(const float* p, std::int64_t count, float fill) {
    if (count >= kWidth) return load(p);
    return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(count), p);
  }
  static void store_first(float* p, Reg a, std::int64_t count) {
    if (count >= kWidth) return store(p, a);
    _mm512_mask_storeu_ps(p, first_lanes(count), a);
  }
  static Pairs load_pairs(const std::byte* p) { return _mm512_loadu_si512(p); }
  static Reg even(Pairs a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
  static Reg odd(Pairs a) {
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)))
    );
  }
  // 16 BF16 numbers, unaligned.
  static Reg load_bf16(const std::byte* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }

  template <int kPlace>
  static Reg e4m3(Pairs words) {
    const __m512i top = _mm512_srai_epi32(_mm512_slli_epi32(words, 24 - 8 * kPlace), 4);
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0x87F00000U));
    return _mm512_castsi512_ps(_mm512_and_si512(top, mask));
  }
  // The permutations look at the four lowest bits of their index.
  template <int kPlace>
  static Reg int4(Pairs words) {
    const __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * kPlace), values);
  }
  template <int kPlace>
  static Reg e2m1(Pairs words) {
    const __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * kPlace), values);
  }
  static Reg load_e8m0(const std::byte* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu8_epi32(bytes), 23);
    return _mm512_castsi512_ps(_mm512_max_epi32(bits, _mm512_set1_epi32(0x00400000)));
  }

  using Ints = __m512i;
  struct Bytes {
    __m512i even;
    __m512i odd;
  };
  static constexpr int kQuadBytes = 8;

  static void store_quad(const std::int32_t* q, std::byte* out) { Avx2::store_quad(q, out); }
  static Bytes split_bytes(Pairs words) {
    return {_mm512_and_si512(words, _mm512_set1_epi32(0x00FF00FF)), _mm512_srli_epi16(words, 8)};
  }
  static Ints dot(Ints sum, Bytes w, const std::byte* quad) {
    std::int32_t x[2];
    __builtin_memcpy(x, quad, sizeof(x));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.even, _mm512_set1_epi32(x[0])));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(w.odd, _mm512_set1_epi32(x[1])));
  }
  static Ints add_ints(Ints a, std::int32_t b) { return _mm512_add_epi32(a, _mm512_set1_epi32(b)); }
  static Reg to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
  static Ints bits_of(Reg a) { return _mm512_castps_si512(a); }
  static Reg from_bits(Ints a) { return _mm512_castsi512_ps(a); }

  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  static Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
  static Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
  static Reg where_less(Reg x, Reg limit, Reg a, Reg b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), b, a);
  }
  static Reg round_bf16(Reg a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
    const __m512i lowest = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i carried =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), lowest);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_mask_blend_epi32(nan, carried, quiet), high)
    );
  }
  static Reg times_pow2(Reg p, Reg biased) {
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(biased), _mm512_set1_epi32(0x4B400000));
    const __m512i half = _mm512_srai_epi32(n, 1);
    const __m512i rest = _mm512_sub_epi32(n, half);
    const __m512i one = _mm512_set1_epi32(127);
    p = _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, one), 23)));
    return _mm512_mul_ps(
        p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(rest, one), 23))
    );
  }
  static float reduce_add(const Reg* a) {
    return Avx2::add_8(_mm256_add_ps(_mm512_castps512_ps256(*a), _mm512_extractf32x8_ps(*a, 1)));
  }
  static float reduce_max(const Reg* a) {
    return Avx2::max_8(_mm256_max_ps(_mm512_castps512_ps256(*a), _mm512_extractf32x8_ps(*a, 1)));
  }
  static void transpose(const float* in, std::int64_t stride, float* out) {
    Avx2::transpose(in, stride, out);
  }
  static void transpose_bf16(const std::byte* in, std::int64_t stride, float* out) {
    Avx2::transpose_bf16(in, stride, out);
  }
};

}  // namespace
}  // namespace pleiad::kernels::detail
