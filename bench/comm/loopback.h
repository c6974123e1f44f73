#pragma once

#include <cstddef>

// What the machine can do without us, measured in the same program as the groups that are compared
// with it.
namespace pleiad::bench {

// Bytes per second of copying `bytes` bytes again and again on one thread.
double memcpy_bandwidth(std::size_t bytes);

// One TCP connection over the loopback interface between two threads that block in recv().
struct Loopback {
  double latency_seconds = 0;  // one way, 8 bytes
  double bandwidth = 0;        // bytes per second, one way
};

Loopback measure_loopback(std::size_t bytes);

}  // namespace pleiad::bench
