#pragma once

#include <cstdint>

#include <cuda.h>

// Hopper's own instructions (sm_90a) by name: barriers in shared memory, the bulk copy engine,
// clusters, warpgroup registers, dependent launches. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

// The address of `pointer` in the shared window, as instructions on shared memory want it.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// A barrier in shared memory, named by its address. It counts arrivals and bytes; a phase ends when
// both are in. Parity 0 names its first phase.
__device__ inline void barrier_init(std::uint32_t barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Shows initialised barriers to the copy engine and to the other blocks of the cluster.
__device__ inline void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// One arrival that also announces `bytes` of bulk copies.
__device__ inline void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// An arrival at the barrier of the same address in block `rank` of the cluster. Scoped to this
// block: it orders reads of shared memory before it, and a fence for the cluster would be one for
// the whole GPU, which halved the speed.
__device__ inline void barrier_arrive_remote(std::uint32_t barrier, std::uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}\n" ::"r"(barrier),
      "r"(rank)
      : "memory"
  );
}

// Waits for the end of the phase of `parity`.
__device__ inline void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory"
  );
}

// What the second-level cache does with lines that a copy reads: give them up first, or treat them
// as any.
__device__ inline std::uint64_t evict_first_policy() {
  std::uint64_t policy = 0;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ inline std::uint64_t evict_normal_policy() {
  std::uint64_t policy = 0;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Copies `bytes` (a multiple of 16, both ends 16-byte aligned) from global to shared memory.
__device__ inline void copy_bulk(
    std::uint32_t target,
    const void* source,
    std::uint32_t bytes,
    std::uint32_t barrier,
    std::uint64_t policy
) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1], %2, [%3], %4;" ::"r"(target),
      "l"(source),
      "r"(bytes),
      "r"(barrier),
      "l"(policy)
      : "memory"
  );
}

// Copies the box of `map` whose first element is (column, row) to shared memory.
__device__ inline void copy_box(
    std::uint32_t target,
    const CUtensorMap* map,
    std::int32_t column,
    std::int32_t row,
    std::uint32_t barrier
) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(target),
      "l"(map),
      "r"(column),
      "r"(row),
      "r"(barrier)
      : "memory"
  );
}

// Copies the box of `map`, a map of pages, whose first element is (column, 0, page) to shared
// memory.
__device__ inline void copy_page_box(
    std::uint32_t target,
    const CUtensorMap* map,
    std::int32_t column,
    std::int32_t page,
    std::uint32_t barrier
) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(target),
      "l"(map),
      "r"(column),
      "r"(0),
      "r"(page),
      "r"(barrier)
      : "memory"
  );
}

// As copy_box, to the same place in every block of the cluster that `blocks` has a bit for; each
// block's own barrier counts the bytes.
__device__ inline void copy_box_multicast(
    std::uint32_t target,
    const CUtensorMap* map,
    std::int32_t column,
    std::int32_t row,
    std::uint32_t barrier,
    std::uint16_t blocks
) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(target),
      "l"(map),
      "r"(column),
      "r"(row),
      "r"(barrier),
      "h"(blocks)
      : "memory"
  );
}

// `value` of the first lane, which the compiler then knows to be the same all over the warp.
__device__ inline std::uint32_t uniform(std::uint32_t value) {
  return __shfl_sync(0xFFFFFFFFU, value, 0);
}

__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ inline void store_shared(std::uint32_t target, std::uint32_t value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(target), "r"(value) : "memory");
}

__device__ inline uint4 load_shared_16(std::uint32_t source) {
  uint4 values;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(values.x), "=r"(values.y), "=r"(values.z), "=r"(values.w)
               : "r"(source)
               : "memory");
  return values;
}

// A copy of 4, 8 or 16 bytes by this thread, and the groups such copies fall into.
template <int kBytes>
__device__ inline void copy_async(std::uint32_t target, const void* source) {
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(source) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(target), "l"(source), "n"(kBytes)
                 : "memory");
  }
}

__device__ inline void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Arrives at the barrier, which counts on it, when this thread's copies up to here have landed.
__device__ inline void copy_async_arrive(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

template <int kPending>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Orders this thread's ordinary accesses to shared memory before those of the tensor cores and the
// copy engine.
__device__ inline void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline std::uint32_t cluster_rank() {
  std::uint32_t rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All threads of all blocks of the cluster meet.
__device__ inline void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;\n" ::
          : "memory"
  );
}

template <int kRegisters>
__device__ inline void registers_give() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Named barriers of the block, of `threads` threads: some arrive and go on, the others wait for
// all.
__device__ inline void named_arrive(int barrier, int threads) {
  asm volatile("barrier.cta.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

__device__ inline void named_sync(int barrier, int threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// The tensor cores of a warpgroup: fence before the first product that uses registers touched
// otherwise, commit after a batch of products, wait until at most kPending batches are under way.
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving uses of `sums` across a wait: products write them behind its back.
template <int kCount>
__device__ inline void hold(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(sums[i])::"memory");
  }
}

// Describes an operand at `address` (1024-byte aligned plus steps along its 128-byte rows) to
// wgmma: rows of 128 bytes, eight of them to a 1024-byte group, 16-byte chunks permuted by the
// row's low three bits. The first field counts 16-byte units; the stride between groups is 64 of
// them; layout 1 is that permutation.
__device__ inline std::uint64_t operand(std::uint32_t address) {
  constexpr std::uint64_t kGroupStride = std::uint64_t{64} << 32;
  constexpr std::uint64_t kUnusedStride = std::uint64_t{1} << 16;
  constexpr std::uint64_t kPermuted128 = std::uint64_t{1} << 62;
  return kPermuted128 | kGroupStride | kUnusedStride | ((address & 0x3FFFFU) >> 4);
}

// With programmatic launches: waits until the kernels before this one are done; lets the next
// start.
__device__ inline void wait_for_earlier_kernels() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

__device__ inline void let_next_kernel_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace pleiad::kernels::cuda::hopper
