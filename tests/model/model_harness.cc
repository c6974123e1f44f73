#include "tests/model/model_harness.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>

#include "base/check.h"
#include "model/model_config.h"
#include "weights/checkpoint.h"
#include "weights/safetensors.h"

namespace pleiad::model {
namespace {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  PLEIAD_CHECK(in.good(), path.string());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

template <typename T>
std::vector<T> copy_as(std::string_view bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

}  // namespace

ModelHarness
ModelHarness::load(const std::filesystem::path& folder, const HarnessOptions& options) {
  ModelHarness out;
  out.options_ = options;
  out.pool_ = std::make_unique<device::ThreadPool>(options.threads);
  const Json config = options.config == "config.json"
                          ? read_model_config(folder).value()
                          : parse_json(read_all(folder / options.config)).value();
  const auto checkpoint = weights::Checkpoint::open(folder).value();
  const Architecture& architecture = *find_architecture(config).value();
  out.weights_ = architecture
                     .load(
                         config,
                         *checkpoint,
                         {.pool = out.pool_.get(), .compute = options.compute, .gpu = options.gpu}
                     )
                     .value();
  out.model_ =
      out.weights_
          ->make_rank({
              .context = {.pool = out.pool_.get(), .isa = options.isa, .compute = options.compute},
              .limits =
                  {.rows_max = options.rows_max,
                   .logit_rows_max = options.rows_max,
                   .context_max = options.context_max},
          })
          .value();
  const std::int64_t pages = (options.context_max + kv::kPageTokens - 1) / kv::kPageTokens;
  out.cache_ = out.weights_->make_cache(pages).value();
  out.page_table_.resize(static_cast<std::size_t>(pages));
  // Pages in reverse, so that a test cannot pass by treating the table as the identity.
  std::iota(out.page_table_.rbegin(), out.page_table_.rend(), 0U);
  return out;
}

std::size_t ModelHarness::vocabulary() const {
  return static_cast<std::size_t>(model_->shape().vocabulary);
}

std::vector<float> ModelHarness::run(std::span<const TokenId> tokens, std::int64_t first) {
  std::vector<std::int64_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), first);
  std::vector<kernels::AttentionRow> rows;
  for (const std::int64_t position : positions) {
    rows.push_back({.page_table = page_table_.data(), .position = position});
  }
  std::vector<std::int32_t> logit_rows(tokens.size());
  std::iota(logit_rows.begin(), logit_rows.end(), 0);
  std::vector<float> logits(tokens.size() * vocabulary(), std::nanf(""));
  const auto done = model_->forward(
      {.tokens = tokens,
       .positions = positions,
       .rows = rows,
       .logit_rows = logit_rows,
       .logits = logits},
      cache_
  );
  PLEIAD_CHECK(done.ok());
  return logits;
}

std::vector<float> ModelHarness::logits(std::span<const TokenId> tokens, std::size_t chunk) {
  std::vector<float> out;
  out.reserve(tokens.size() * vocabulary());
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const auto part = tokens.subspan(begin, std::min(chunk, tokens.size() - begin));
    const auto logits = run(part, static_cast<std::int64_t>(begin));
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

std::vector<TokenId> ModelHarness::greedy(std::span<const TokenId> prompt, std::size_t count) {
  std::vector<float> last = logits(prompt);
  std::vector<TokenId> out;
  auto position = static_cast<std::int64_t>(prompt.size());
  while (out.size() < count) {
    const auto row = std::span(last).last(vocabulary());
    out.push_back(static_cast<TokenId>(std::ranges::max_element(row) - row.begin()));
    last = run(std::span(out).last(1), position++);
  }
  return out;
}

GoldenTensors::GoldenTensors(const std::filesystem::path& file) : bytes_(read_all(file)) {
  const auto header =
      weights::parse_safetensors_header(std::as_bytes(std::span(bytes_)), bytes_.size()).value();
  for (const auto& entry : header.tensors) {
    entries_[entry.name] = {header.data_offset + entry.begin, header.data_offset + entry.end};
  }
}

std::vector<float> GoldenTensors::floats(const std::string& name) const {
  const auto& [begin, end] = entries_.at(name);
  return copy_as<float>(std::string_view(bytes_).substr(begin, end - begin));
}

std::vector<TokenId> GoldenTensors::tokens(const std::string& name) const {
  const auto& [begin, end] = entries_.at(name);
  return copy_as<TokenId>(std::string_view(bytes_).substr(begin, end - begin));
}

double error_over_range(std::span<const float> actual, std::span<const float> expected) {
  PLEIAD_CHECK(actual.size() >= expected.size());
  const auto rows = actual.last(expected.size());
  const auto [low, high] = std::ranges::minmax(expected);
  double worst = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(rows[i]) - static_cast<double>(expected[i]));
    // A NaN must count as infinitely wrong.
    if (!(difference <= worst)) worst = std::isnan(difference) ? INFINITY : difference;
  }
  return worst / (static_cast<double>(high) - static_cast<double>(low));
}

std::filesystem::path golden_folder() {
  return std::filesystem::path(PLEIAD_SOURCE_DIR) / "tests/golden";
}

std::filesystem::path fable_folder() {
  return std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";
}

}  // namespace pleiad::model
