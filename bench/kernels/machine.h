#pragma once

#include "device/thread_pool.h"

// What the machine can do, measured in the same program as the kernels that are compared with it.
// These loops need AVX2; without it they answer zero, and no share is reported.
namespace pleiad::bench {

// Bytes per second of reading a buffer larger than the caches with every worker; the best of a few
// passes, measured once for each number of workers. One thread at a time.
double read_bandwidth(device::ThreadPool& pool);

// Floating-point operations per second of independent fused multiply-adds in registers (AVX-512
// where there is one, else AVX2), every worker; measured once.
double fma_peak(device::ThreadPool& pool);

// The pool every bench shares: one worker per processor.
device::ThreadPool& shared_pool();

}  // namespace pleiad::bench
