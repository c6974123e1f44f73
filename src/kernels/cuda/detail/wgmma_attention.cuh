#pragma once

#include <cstdint>

// The products of attention on Hopper's tensor cores, of BF16 values with sums in float. `a` is
// 64 rows of 16 values, in a warpgroup's registers or described to wgmma; `b` is described. A
// thread's sums: of row 16 warp + lane / 4 + 8 h and column 8 j + 2 (lane % 4) + i, d[4 j + 2 h +
// i].
namespace pleiad::kernels::cuda::hopper {

// The half of an operand's description that differs: in units of 16 bytes the address, and 16 bits
// up the stride between neighbouring 64 columns where columns follow each other. The other half is
// always the same: rows of 128 bytes, eight to a group of 1024 (64 units), their chunks permuted.
// Kept uniform over the warp, it costs one instruction a product.
struct Operand {
  std::uint32_t low = 0;

  // Further on by `bytes`.
  __device__ Operand at(std::uint32_t bytes) const { return {low + bytes / 16}; }
};

// A shared address in units of 16 bytes. Above it, the address of a block in a cluster names the
// block, which would fall into the stride.
__device__ inline std::uint32_t units_of(std::uint32_t address) {
  return (address & 0x3FFFFU) / 16;
}

// Rows of elements, from a shared address that is a multiple of 1024.
__device__ inline Operand along(std::uint32_t address) {
  return {(1U << 16U) + units_of(address)};
}

// Rows of columns, the next 64 of them `box_bytes` further on.
__device__ inline Operand across(std::uint32_t address, std::uint32_t box_bytes) {
  return {(box_bytes / 16 << 16U) + units_of(address)};
}

// Scores of 64 rows with the 64 tokens of a page or the 128 of two, along 16 elements of the keys;
// d's own values count only with `adds`. `b`: tokens whose elements follow each other.
__device__ inline void score_product(float (&d)[32], Operand a, Operand b, std::uint32_t adds) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 left;\n"
      "mov.b64 left, {%32, 0x40000040};\n"
      ".reg .b64 right;\n"
      "mov.b64 right, {%33, 0x40000040};\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
      "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, left, right, p, 1, 1, 0, 0;\n"
      "}\n"
      : "+f"(d[0]),
        "+f"(d[1]),
        "+f"(d[2]),
        "+f"(d[3]),
        "+f"(d[4]),
        "+f"(d[5]),
        "+f"(d[6]),
        "+f"(d[7]),
        "+f"(d[8]),
        "+f"(d[9]),
        "+f"(d[10]),
        "+f"(d[11]),
        "+f"(d[12]),
        "+f"(d[13]),
        "+f"(d[14]),
        "+f"(d[15]),
        "+f"(d[16]),
        "+f"(d[17]),
        "+f"(d[18]),
        "+f"(d[19]),
        "+f"(d[20]),
        "+f"(d[21]),
        "+f"(d[22]),
        "+f"(d[23]),
        "+f"(d[24]),
        "+f"(d[25]),
        "+f"(d[26]),
        "+f"(d[27]),
        "+f"(d[28]),
        "+f"(d[29]),
        "+f"(d[30]),
        "+f"(d[31])
      : "r"(a.low), "r"(b.low), "r"(adds)
  );
}

__device__ inline void score_product(float (&d)[64], Operand a, Operand b, std::uint32_t adds) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 left;\n"
      "mov.b64 left, {%64, 0x40000040};\n"
      ".reg .b64 right;\n"
      "mov.b64 right, {%65, 0x40000040};\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
      "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
      "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63"
      "}, left, right, p, 1, 1, 0, 0;\n"
      "}\n"
      : "+f"(d[0]),
        "+f"(d[1]),
        "+f"(d[2]),
        "+f"(d[3]),
        "+f"(d[4]),
        "+f"(d[5]),
        "+f"(d[6]),
        "+f"(d[7]),
        "+f"(d[8]),
        "+f"(d[9]),
        "+f"(d[10]),
        "+f"(d[11]),
        "+f"(d[12]),
        "+f"(d[13]),
        "+f"(d[14]),
        "+f"(d[15]),
        "+f"(d[16]),
        "+f"(d[17]),
        "+f"(d[18]),
        "+f"(d[19]),
        "+f"(d[20]),
        "+f"(d[21]),
        "+f"(d[22]),
        "+f"(d[23]),
        "+f"(d[24]),
        "+f"(d[25]),
        "+f"(d[26]),
        "+f"(d[27]),
        "+f"(d[28]),
        "+f"(d[29]),
        "+f"(d[30]),
        "+f"(d[31]),
        "+f"(d[32]),
        "+f"(d[33]),
        "+f"(d[34]),
        "+f"(d[35]),
        "+f"(d[36]),
        "+f"(d[37]),
        "+f"(d[38]),
        "+f"(d[39]),
        "+f"(d[40]),
        "+f"(d[41]),
        "+f"(d[42]),
        "+f"(d[43]),
        "+f"(d[44]),
        "+f"(d[45]),
        "+f"(d[46]),
        "+f"(d[47]),
        "+f"(d[48]),
        "+f"(d[49]),
        "+f"(d[50]),
        "+f"(d[51]),
        "+f"(d[52]),
        "+f"(d[53]),
        "+f"(d[54]),
        "+f"(d[55]),
        "+f"(d[56]),
        "+f"(d[57]),
        "+f"(d[58]),
        "+f"(d[59]),
        "+f"(d[60]),
        "+f"(d[61]),
        "+f"(d[62]),
        "+f"(d[63])
      : "r"(a.low), "r"(b.low), "r"(adds)
  );
}

// Values weighed with 64 rows' weights of 16 tokens, added to d. `b`: 16 tokens, each with the
// columns one after the other.
__device__ inline void value_product(float (&d)[32], const std::uint32_t (&a)[4], Operand b) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 right;\n"
      "mov.b64 right, {%36, 0x40000040};\n"
      "setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
      "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, right, p, 1, 1, 1;\n"
      "}\n"
      : "+f"(d[0]),
        "+f"(d[1]),
        "+f"(d[2]),
        "+f"(d[3]),
        "+f"(d[4]),
        "+f"(d[5]),
        "+f"(d[6]),
        "+f"(d[7]),
        "+f"(d[8]),
        "+f"(d[9]),
        "+f"(d[10]),
        "+f"(d[11]),
        "+f"(d[12]),
        "+f"(d[13]),
        "+f"(d[14]),
        "+f"(d[15]),
        "+f"(d[16]),
        "+f"(d[17]),
        "+f"(d[18]),
        "+f"(d[19]),
        "+f"(d[20]),
        "+f"(d[21]),
        "+f"(d[22]),
        "+f"(d[23]),
        "+f"(d[24]),
        "+f"(d[25]),
        "+f"(d[26]),
        "+f"(d[27]),
        "+f"(d[28]),
        "+f"(d[29]),
        "+f"(d[30]),
        "+f"(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.low)
  );
}

__device__ inline void value_product(float (&d)[64], const std::uint32_t (&a)[4], Operand b) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 right;\n"
      "mov.b64 right, {%68, 0x40000040};\n"
      "setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
      "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
      "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63"
      "}, {%64, %65, %66, %67}, right, p, 1, 1, 1;\n"
      "}\n"
      : "+f"(d[0]),
        "+f"(d[1]),
        "+f"(d[2]),
        "+f"(d[3]),
        "+f"(d[4]),
        "+f"(d[5]),
        "+f"(d[6]),
        "+f"(d[7]),
        "+f"(d[8]),
        "+f"(d[9]),
        "+f"(d[10]),
        "+f"(d[11]),
        "+f"(d[12]),
        "+f"(d[13]),
        "+f"(d[14]),
        "+f"(d[15]),
        "+f"(d[16]),
        "+f"(d[17]),
        "+f"(d[18]),
        "+f"(d[19]),
        "+f"(d[20]),
        "+f"(d[21]),
        "+f"(d[22]),
        "+f"(d[23]),
        "+f"(d[24]),
        "+f"(d[25]),
        "+f"(d[26]),
        "+f"(d[27]),
        "+f"(d[28]),
        "+f"(d[29]),
        "+f"(d[30]),
        "+f"(d[31]),
        "+f"(d[32]),
        "+f"(d[33]),
        "+f"(d[34]),
        "+f"(d[35]),
        "+f"(d[36]),
        "+f"(d[37]),
        "+f"(d[38]),
        "+f"(d[39]),
        "+f"(d[40]),
        "+f"(d[41]),
        "+f"(d[42]),
        "+f"(d[43]),
        "+f"(d[44]),
        "+f"(d[45]),
        "+f"(d[46]),
        "+f"(d[47]),
        "+f"(d[48]),
        "+f"(d[49]),
        "+f"(d[50]),
        "+f"(d[51]),
        "+f"(d[52]),
        "+f"(d[53]),
        "+f"(d[54]),
        "+f"(d[55]),
        "+f"(d[56]),
        "+f"(d[57]),
        "+f"(d[58]),
        "+f"(d[59]),
        "+f"(d[60]),
        "+f"(d[61]),
        "+f"(d[62]),
        "+f"(d[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.low)
  );
}

// The same of 128 columns, whose sums are d[kFirst] to d[kFirst + 63], with weights described.
template <int kFirst>
__device__ void value_product(float (&d)[128], Operand a, Operand b) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      ".reg .b64 left;\n"
      "mov.b64 left, {%64, 0x40000040};\n"
      ".reg .b64 right;\n"
      "mov.b64 right, {%65, 0x40000040};\n"
      "setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
      "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
      "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63"
      "}, left, right, p, 1, 1, 0, 1;\n"
      "}\n"
      : "+f"(d[kFirst + 0]),
        "+f"(d[kFirst + 1]),
        "+f"(d[kFirst + 2]),
        "+f"(d[kFirst + 3]),
        "+f"(d[kFirst + 4]),
        "+f"(d[kFirst + 5]),
        "+f"(d[kFirst + 6]),
        "+f"(d[kFirst + 7]),
        "+f"(d[kFirst + 8]),
        "+f"(d[kFirst + 9]),
        "+f"(d[kFirst + 10]),
        "+f"(d[kFirst + 11]),
        "+f"(d[kFirst + 12]),
        "+f"(d[kFirst + 13]),
        "+f"(d[kFirst + 14]),
        "+f"(d[kFirst + 15]),
        "+f"(d[kFirst + 16]),
        "+f"(d[kFirst + 17]),
        "+f"(d[kFirst + 18]),
        "+f"(d[kFirst + 19]),
        "+f"(d[kFirst + 20]),
        "+f"(d[kFirst + 21]),
        "+f"(d[kFirst + 22]),
        "+f"(d[kFirst + 23]),
        "+f"(d[kFirst + 24]),
        "+f"(d[kFirst + 25]),
        "+f"(d[kFirst + 26]),
        "+f"(d[kFirst + 27]),
        "+f"(d[kFirst + 28]),
        "+f"(d[kFirst + 29]),
        "+f"(d[kFirst + 30]),
        "+f"(d[kFirst + 31]),
        "+f"(d[kFirst + 32]),
        "+f"(d[kFirst + 33]),
        "+f"(d[kFirst + 34]),
        "+f"(d[kFirst + 35]),
        "+f"(d[kFirst + 36]),
        "+f"(d[kFirst + 37]),
        "+f"(d[kFirst + 38]),
        "+f"(d[kFirst + 39]),
        "+f"(d[kFirst + 40]),
        "+f"(d[kFirst + 41]),
        "+f"(d[kFirst + 42]),
        "+f"(d[kFirst + 43]),
        "+f"(d[kFirst + 44]),
        "+f"(d[kFirst + 45]),
        "+f"(d[kFirst + 46]),
        "+f"(d[kFirst + 47]),
        "+f"(d[kFirst + 48]),
        "+f"(d[kFirst + 49]),
        "+f"(d[kFirst + 50]),
        "+f"(d[kFirst + 51]),
        "+f"(d[kFirst + 52]),
        "+f"(d[kFirst + 53]),
        "+f"(d[kFirst + 54]),
        "+f"(d[kFirst + 55]),
        "+f"(d[kFirst + 56]),
        "+f"(d[kFirst + 57]),
        "+f"(d[kFirst + 58]),
        "+f"(d[kFirst + 59]),
        "+f"(d[kFirst + 60]),
        "+f"(d[kFirst + 61]),
        "+f"(d[kFirst + 62]),
        "+f"(d[kFirst + 63])
      : "r"(a.low), "r"(b.low)
  );
}

}  // namespace pleiad::kernels::cuda::hopper
