// Runs a fuzz target without libFuzzer: every file of the corpus folder, then mutations of each
// drawn from a fixed seed. Prints how many inputs ran; a crash names the input in the last line.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace {

constexpr int kMutationsPerFile = 200;
constexpr std::uint64_t kSeed = 20261123;

using Bytes = std::vector<std::uint8_t>;

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Flips, drops, doubles or cuts a few bytes.
Bytes mutate(Bytes bytes, pleiad::Random& random) {
  const std::uint64_t edits = 1 + random.below(4);
  for (std::uint64_t i = 0; i < edits && !bytes.empty(); ++i) {
    const auto at = static_cast<std::ptrdiff_t>(random.below(bytes.size()));
    switch (random.below(4)) {
      case 0:
        bytes[static_cast<std::size_t>(at)] ^= static_cast<std::uint8_t>(random.next());
        break;
      case 1:
        bytes.erase(bytes.begin() + at);
        break;
      case 2:
        bytes.insert(bytes.begin() + at, bytes[static_cast<std::size_t>(at)]);
        break;
      default:
        bytes.resize(static_cast<std::size_t>(at));
        break;
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  int inputs = 0;
  pleiad::Random random(kSeed);
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    const Bytes seed_bytes = read_file(entry.path());
    std::fprintf(
        stderr, "%s (seed %llu)\n", entry.path().c_str(), static_cast<unsigned long long>(kSeed)
    );
    LLVMFuzzerTestOneInput(seed_bytes.data(), seed_bytes.size());
    for (int i = 0; i < kMutationsPerFile; ++i) {
      const Bytes mutant = mutate(seed_bytes, random);
      LLVMFuzzerTestOneInput(mutant.data(), mutant.size());
    }
    inputs += 1 + kMutationsPerFile;
  }
  std::printf("%d inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}
