#pragma once

#include <cmath>
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
