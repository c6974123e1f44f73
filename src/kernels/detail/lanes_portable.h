#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "device/dtype.h"

// Vector operations in plain C++, 16 lanes at a time: the meaning of lanes_avx2.h and
// lanes_avx512.h.
namespace pleiad::kernels::detail {
namespace {

struct Portable {
  static constexpr int kWidth = 16;
  static constexpr int kRegs = 1;      // registers for 16 lanes
  static constexpr int kRowTile = 4;   // rows of a register tile
  static constexpr int kTileRegs = 4;  // accumulators of a register tile
  // Register tiles that decode weights, and those of integers.
  static constexpr int kDecodeRowTile = 1;
  static constexpr int kDecodeTileRegs = 1;
  static constexpr int kIntRowTile = 4;
  static constexpr int kIntTileRegs = 4;

  struct Reg {
    float v[kWidth];
  };
  // 16 pairs of BF16, the even input in the low half.
  struct Pairs {
    std::uint32_t v[kWidth];
  };

  static Reg broadcast(float value) {
    Reg out{};
    for (float& lane : out.v) {
      lane = value;
    }
    return out;
  }
  static Reg zero() { return broadcast(0.0F); }
  static Reg load(const float* p) {
    Reg out{};
    std::memcpy(out.v, p, sizeof(out.v));
    return out;
  }
  static void store(float* p, Reg a) { std::memcpy(p, a.v, sizeof(a.v)); }
  // The first `count` lanes from memory, the others `fill`; any count.
  static Reg load_first(const float* p, std::int64_t count, float fill) {
    Reg out = broadcast(fill);
    for (int i = 0; i < kWidth && i < count; ++i) {
      out.v[i] = p[i];
    }
    return out;
  }
  static void store_first(float* p, Reg a, std::int64_t count) {
    for (int i = 0; i < kWidth && i < count; ++i) {
      p[i] = a.v[i];
    }
  }
  static Pairs load_pairs(const std::byte* p) {
    Pairs out{};
    std::memcpy(out.v, p, sizeof(out.v));
    return out;
  }
  static Reg even(Pairs a) {
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      out.v[i] = std::bit_cast<float>(a.v[i] << 16U);
    }
    return out;
  }
  static Reg odd(Pairs a) {
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      out.v[i] = std::bit_cast<float>(a.v[i] & 0xFFFF0000U);
    }
    return out;
  }
  // 16 BF16 numbers, unaligned.
  static Reg load_bf16(const std::byte* p) {
    device::BF16 bits[kWidth];
    std::memcpy(bits, p, sizeof(bits));
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      out.v[i] = device::bf16_to_float(bits[i]);
    }
    return out;
  }

  // Quantised weights, 16 words of one output each (PanelLayout): the code at kPlace of every word.
  // E4M3, times 2^-120.
  template <int kPlace>
  static Reg e4m3(Pairs words) {
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      const std::uint32_t code = words.v[i] >> (8U * kPlace);
      out.v[i] = std::bit_cast<float>(((code & 0x7FU) << 20U) | ((code & 0x80U) << 24U));
    }
    return out;
  }
  // Four bits, two's complement.
  template <int kPlace>
  static Reg int4(Pairs words) {
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      const std::uint32_t top = words.v[i] << (28U - 4U * kPlace);
      out.v[i] = static_cast<float>(static_cast<std::int32_t>(top) >> 28);
    }
    return out;
  }
  // E2M1, times two; -0 is 0.
  template <int kPlace>
  static Reg e2m1(Pairs words) {
    constexpr float kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      out.v[i] = kDoubled[(words.v[i] >> (4U * kPlace)) & 0xFU];
    }
    return out;
  }
  // 16 powers of two, E8M0; none is NaN.
  static Reg load_e8m0(const std::byte* p) {
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(p[i]) << 23U;
      out.v[i] = std::bit_cast<float>(bits == 0 ? 0x00400000U : bits);
    }
    return out;
  }

  // Sums of products of integers: of 16 outputs' unsigned bytes, four inputs to a word, with four
  // quantised values of x that store_quad has put down. Exact.
  using Ints = Pairs;
  struct Bytes {
    Pairs words;
  };
  static constexpr int kQuadBytes = 8;

  static void store_quad(const std::int32_t* q, std::byte* out) {
    const std::int16_t quad[4] = {
        static_cast<std::int16_t>(q[0]),
        static_cast<std::int16_t>(q[2]),
        static_cast<std::int16_t>(q[1]),
        static_cast<std::int16_t>(q[3]),
    };
    std::memcpy(out, quad, sizeof(quad));
  }
  static Bytes split_bytes(Pairs words) { return {words}; }
  static Ints dot(Ints sum, Bytes w, const std::byte* quad) {
    std::int16_t x[4];
    std::memcpy(x, quad, sizeof(x));
    for (int i = 0; i < kWidth; ++i) {
      const std::uint32_t word = w.words.v[i];
      const int low =
          static_cast<int>(word & 0xFFU) * x[0] + static_cast<int>((word >> 16U) & 0xFFU) * x[1];
      const int high =
          static_cast<int>((word >> 8U) & 0xFFU) * x[2] + static_cast<int>(word >> 24U) * x[3];
      sum.v[i] += static_cast<std::uint32_t>(low) + static_cast<std::uint32_t>(high);
    }
    return sum;
  }
  static Ints add_ints(Ints a, std::int32_t b) {
    for (std::uint32_t& lane : a.v) {
      lane += static_cast<std::uint32_t>(b);
    }
    return a;
  }
  static Reg to_floats(Ints a) {
    Reg out{};
    for (int i = 0; i < kWidth; ++i) {
      out.v[i] = static_cast<float>(static_cast<std::int32_t>(a.v[i]));
    }
    return out;
  }
  static Ints bits_of(Reg a) {
    Ints out{};
    std::memcpy(out.v, a.v, sizeof(out.v));
    return out;
  }
  static Reg from_bits(Ints a) {
    Reg out{};
    std::memcpy(out.v, a.v, sizeof(out.v));
    return out;
  }

  static Reg fma(Reg a, Reg b, Reg c) {
    for (int i = 0; i < kWidth; ++i) {
      c.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
    }
    return c;
  }
  static Reg add(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] += b.v[i];
    }
    return a;
  }
  static Reg sub(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] -= b.v[i];
    }
    return a;
  }
  static Reg mul(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] *= b.v[i];
    }
    return a;
  }
  static Reg div(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] /= b.v[i];
    }
    return a;
  }
  // a < b ? a : b, hence b where either is NaN; max likewise.
  static Reg min(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    }
    return a;
  }
  static Reg max(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    }
    return a;
  }
  // x < limit ? a : b.
  static Reg where_less(Reg x, Reg limit, Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) {
      a.v[i] = x.v[i] < limit.v[i] ? a.v[i] : b.v[i];
    }
    return a;
  }
  static Reg round_bf16(Reg a) {
    for (float& lane : a.v) {
      lane = device::round_to_bf16(lane);
    }
    return a;
  }
  // p * 2^n, where `biased` is n + 1.5 * 2^23 for whole |n| <= 252.
  static Reg times_pow2(Reg p, Reg biased) {
    for (int i = 0; i < kWidth; ++i) {
      const std::uint32_t n = std::bit_cast<std::uint32_t>(biased.v[i]) - 0x4B400000U;
      const std::uint32_t half = (n >> 1U) | (n & 0x80000000U);
      p.v[i] *= std::bit_cast<float>((half + 127U) << 23U);
      p.v[i] *= std::bit_cast<float>((n - half + 127U) << 23U);
    }
    return p;
  }
  // Sum of 16 lanes: lanes 8 apart, then 4, 2 and 1.
  static float reduce_add(const Reg* a) {
    Reg sum = a[0];
    for (int step = kWidth / 2; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) {
        sum.v[i] += sum.v[i + step];
      }
    }
    return sum.v[0];
  }
  static float reduce_max(const Reg* a) {
    Reg top = a[0];
    for (int step = kWidth / 2; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) {
        top.v[i] = top.v[i] > top.v[i + step] ? top.v[i] : top.v[i + step];
      }
    }
    return top.v[0];
  }
  // out[c * 16 + r] = in[r * stride + c] for 16 rows and 16 columns.
  static void transpose(const float* in, std::int64_t stride, float* out) {
    for (int r = 0; r < kWidth; ++r) {
      for (int c = 0; c < kWidth; ++c) {
        out[c * kWidth + r] = in[r * stride + c];
      }
    }
  }
  // The same from BF16; stride in elements.
  static void transpose_bf16(const std::byte* in, std::int64_t stride, float* out) {
    for (int r = 0; r < kWidth; ++r) {
      const Reg row = load_bf16(in + r * stride * 2);
      for (int c = 0; c < kWidth; ++c) {
        out[c * kWidth + r] = row.v[c];
      }
    }
  }
};

}  // namespace
}  // namespace pleiad::kernels::detail
