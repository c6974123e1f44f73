#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "base/json.h"
#include "base/random.h"
#include "text/tokenizer.h"

// Loading a vocabulary of the size that large models have: what a start pays before it can read a
// prompt. Parsing the same bytes as JSON stands beside it: the part that no tokenizer can avoid.
namespace pleiad::bench {
namespace {

constexpr std::size_t kTokens = 128'000;
constexpr std::size_t kTokenBytesMax = 16;

// The printable characters of ASCII, which stand for themselves; the other bytes play no part.
std::vector<std::string> first_tokens() {
  std::vector<std::string> tokens;
  for (char letter = '!'; letter <= '~'; ++letter) {
    tokens.emplace_back(1, letter);
  }
  return tokens;
}

// A tokenizer.json whose merges join random tokens.
std::string random_tokenizer_json() {
  Random random(1);
  std::vector<std::string> tokens = first_tokens();
  std::unordered_set<std::string> known(tokens.begin(), tokens.end());
  std::string vocabulary;
  std::string merges;
  const auto write_token = [&vocabulary](const std::string& token, std::size_t id) {
    if (id > 0) vocabulary += ",\n      ";
    append_json_string(token, vocabulary);
    vocabulary += ": " + std::to_string(id);
  };
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    write_token(tokens[id], id);
  }
  while (tokens.size() < kTokens) {
    const std::string& left = tokens[random.below(tokens.size())];
    const std::string& right = tokens[random.below(tokens.size())];
    const std::string joined = left + right;
    if (joined.size() > kTokenBytesMax || !known.insert(joined).second) continue;
    if (!merges.empty()) merges += ",\n      ";
    append_json_string(left + " " + right, merges);
    write_token(joined, tokens.size());
    tokens.push_back(joined);
  }
  return R"({"decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {)" + vocabulary +
         "}, \"merges\": [" + merges + "]}}";
}

void set_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void load_tokenizer(benchmark::State& state) {
  const std::string json = random_tokenizer_json();
  for (auto _ : state) {
    auto tokenizer = text::Tokenizer::parse(json, "");
    PLEIAD_CHECK(tokenizer.ok());
    benchmark::DoNotOptimize(tokenizer);
  }
  set_bytes(state, json.size());
}

void parse_alone(benchmark::State& state) {
  const std::string json = random_tokenizer_json();
  for (auto _ : state) {
    auto parsed = parse_json(json);
    PLEIAD_CHECK(parsed.ok());
    benchmark::DoNotOptimize(parsed);
  }
  set_bytes(state, json.size());
}

BENCHMARK(load_tokenizer)->Name("tokenizer of 128000 tokens")->Unit(benchmark::kMillisecond);
BENCHMARK(parse_alone)->Name("its JSON alone")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pleiad::bench
