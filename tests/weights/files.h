#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

// Files that the tests of this room write.
namespace pleiad::weights::testing {

// A safetensors file as its bytes: length, header, `data_bytes` bytes of data counting up from
// zero.
inline std::string safetensors_bytes(std::string_view header, std::size_t data_bytes) {
  std::string bytes;
  for (unsigned i = 0; i < 8; ++i) {
    bytes += static_cast<char>((header.size() >> (8 * i)) & 0xFFU);
  }
  bytes += header;
  for (std::size_t i = 0; i < data_bytes; ++i) {
    bytes += static_cast<char>(i);
  }
  return bytes;
}

// An empty folder that goes when the object goes.
class Folder {
 public:
  // `suffix` tells apart those of one test.
  explicit Folder(std::string_view suffix = {}) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(::testing::TempDir()) /
            (std::string("pleiad_") + test->test_suite_name() + "_" + test->name() +
             std::string(suffix));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  void write(const std::string& name, std::string_view bytes) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::filesystem::path path_;
};

}  // namespace pleiad::weights::testing
