// Also tests: stream.cc, device_buffer.cc, graph.cc
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cuda/device_buffer.h"
#include "device/cuda/gpus.h"
#include "device/cuda/graph.h"
#include "device/cuda/stream.h"

namespace pleiad::device::cuda {
namespace {

TEST(CudaGpus, AnIndexThatIsNotThereIsRefusedNamingThoseThatAre) {
  const int count = gpu_count().value();
  const auto gpu = find_gpu(count);
  ASSERT_FALSE(gpu.ok());
  EXPECT_EQ(gpu.error().kind, ErrorKind::NotFound);
  EXPECT_THAT(gpu.error().message, testing::HasSubstr("cuda:0"));
}

TEST(CudaStream, BytesTravelToTheGpuAndBack) {
  Stream stream = Stream::create({}).value();
  const auto pinned = PinnedBuffer::allocate(4096, "a test").value();
  const auto memory = DeviceBuffer::allocate(4096, "a test").value();
  const auto back = PinnedBuffer::allocate(4096, "a test").value();
  const auto bytes = pinned.as<unsigned char>();
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(0));

  stream.copy_to_device(memory.data(), pinned.data(), 4096);
  stream.copy_to_host(back.data(), memory.data(), 4096);

  ASSERT_TRUE(stream.wait("a copy").ok());
  EXPECT_EQ(std::memcmp(pinned.data(), back.data(), 4096), 0);
}

TEST(CudaStream, TheFirstFailureIsKeptWithItsNameAndTold) {
  Stream stream = Stream::create({}).value();
  stream.copy_to_device(nullptr, nullptr, std::size_t{1} << 20U);
  stream.fill(nullptr, 0, 16);
  const auto result = stream.result();
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, testing::HasSubstr("copy to the GPU [1, 1048576]"));
  EXPECT_TRUE(stream.result().ok());
}

TEST(CudaDeviceBuffer, TooMuchIsRefusedSayingWhatForAndWhatToDo) {
  const auto buffer =
      DeviceBuffer::allocate(std::size_t{1} << 50U, "the weights", "a lower --mem-fraction-static");
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().kind, ErrorKind::Exhausted);
  EXPECT_THAT(buffer.error().message, testing::StartsWith("the weights need 1048576.00 GiB"));
  EXPECT_THAT(buffer.error().message, testing::HasSubstr("--mem-fraction-static"));
}

TEST(CudaGraph, ARecordedStepRunsWhenLaunchedAndNotBefore) {
  Stream stream = Stream::create({}).value();
  const auto memory = DeviceBuffer::allocate(256, "a test").value();
  const auto back = PinnedBuffer::allocate(256, "a test").value();
  stream.fill(memory.data(), 1, 256);
  auto graph = Graph::record(stream, [&]() -> Result<void> {
    stream.fill(memory.data(), 7, 256);
    return {};
  });
  ASSERT_TRUE(graph.ok()) << graph.error().message;
  const auto first_byte = [&] {
    stream.copy_to_host(back.data(), memory.data(), 256);
    EXPECT_TRUE(stream.wait("a copy").ok());
    return static_cast<int>(back.data()[0]);
  };

  EXPECT_EQ(first_byte(), 1);
  graph->launch(stream);
  EXPECT_EQ(first_byte(), 7);
}

TEST(CudaGraph, WhatItsWorkSaysIsTold) {
  Stream stream = Stream::create({}).value();
  const auto graph =
      Graph::record(stream, []() -> Result<void> { return invalid_input("no such op"); });
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.error().message, "no such op");
  EXPECT_TRUE(stream.wait("nothing").ok());
}

TEST(CudaEvent, TimeBetweenEventsIsMeasured) {
  Stream stream = Stream::create({}).value();
  auto begin = Event::create().value();
  auto end = Event::create().value();
  ASSERT_TRUE(begin.record(stream).ok());
  ASSERT_TRUE(end.record(stream).ok());
  EXPECT_GE(end.milliseconds_since(begin).value(), 0.0);
}

}  // namespace
}  // namespace pleiad::device::cuda
