#include "bench/comm/loopback.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include <fcntl.h>

#include "base/check.h"
#include "base/clock.h"
#include "comm/detail/socket.h"

namespace pleiad::bench {
namespace {

constexpr double kSeconds = 0.2;
constexpr int kRounds = 3'000;

void send_all(const comm::FileHandle& socket, const std::vector<std::byte>& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t taken = ::send(socket.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    PLEIAD_CHECK(taken > 0, "the loopback connection holds");
    at += static_cast<std::size_t>(taken);
  }
}

void receive_all(const comm::FileHandle& socket, std::vector<std::byte>& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t taken = ::recv(socket.get(), bytes.data() + at, bytes.size() - at, 0);
    PLEIAD_CHECK(taken > 0, "the loopback connection holds");
    at += static_cast<std::size_t>(taken);
  }
}

void make_blocking(const comm::FileHandle& socket) {
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) & ~O_NONBLOCK);
  comm::prepare_connection(socket, std::chrono::seconds{60});
}

}  // namespace

double memcpy_bandwidth(std::size_t bytes) {
  std::vector<std::byte> from(bytes, std::byte{1});
  // The same offset in a page would make every load wait for a store.
  std::vector<std::byte> target(bytes + 2'112);
  const std::span<std::byte> to(target.data() + 2'112, bytes);
  const SystemClock clock;
  const Nanoseconds began = clock.now();
  double copied = 0;
  double seconds = 0;
  while (seconds < kSeconds) {
    for (std::size_t done = 0; done < (16U << 20U); done += bytes) {
      std::memcpy(to.data(), from.data(), bytes);
      from[done % bytes] = to[(done + 1) % bytes];  // every copy counts
      copied += static_cast<double>(bytes);
    }
    seconds = to_seconds(clock.now() - began);
  }
  return copied / seconds;
}

Loopback measure_loopback(std::size_t bytes) {
  const auto listener = comm::listen_at(*comm::resolve({.host = "127.0.0.1", .port = "0"}, true));
  PLEIAD_CHECK(listener.ok(), "a port");
  const auto connected = comm::connect_to(
      comm::local_address(*listener), std::chrono::seconds{5}, [] { return false; }
  );
  PLEIAD_CHECK(connected.ok(), "a connection");
  comm::SocketAddress peer;
  const comm::FileHandle accepted = comm::accept_from(*listener, peer);
  make_blocking(*connected);
  make_blocking(accepted);

  const auto count = static_cast<int>(std::clamp<std::size_t>((256U << 20U) / bytes, 16, 20'000));
  std::thread echo([&] {
    std::vector<std::byte> small(8);
    for (int i = 0; i < kRounds; ++i) {
      receive_all(accepted, small);
      send_all(accepted, small);
    }
    std::vector<std::byte> large(bytes);
    for (int i = 0; i < count; ++i) {
      receive_all(accepted, large);
    }
    send_all(accepted, small);
  });
  const SystemClock clock;
  std::vector<std::byte> small(8);
  const Nanoseconds began = clock.now();
  for (int i = 0; i < kRounds; ++i) {
    send_all(*connected, small);
    receive_all(*connected, small);
  }
  const Nanoseconds middle = clock.now();
  const std::vector<std::byte> large(bytes);
  for (int i = 0; i < count; ++i) {
    send_all(*connected, large);
  }
  receive_all(*connected, small);
  const Nanoseconds end = clock.now();
  echo.join();
  return {
      .latency_seconds = to_seconds(middle - began) / (2.0 * kRounds),
      .bandwidth = static_cast<double>(bytes) * count / to_seconds(end - middle)};
}

}  // namespace pleiad::bench
