#include "model/cuda/draw_rows.h"

#include <utility>

#include "base/check.h"

namespace pleiad::model::cuda {

using device::cuda::DeviceBuffer;
using device::cuda::PinnedBuffer;
using kernels::cuda::DrawnToken;
using kernels::cuda::DrawRule;

namespace {

DrawRule rule_of(const Draw& draw) {
  return {
      .temperature = draw.temperature,
      .top_p = draw.top_p,
      .min_p = draw.min_p,
      .top_k = draw.top_k,
      .uniform = draw.uniform,
      .wanted = draw.wanted ? 1 : 0,
  };
}

}  // namespace

Result<DrawRows> DrawRows::create(std::int64_t rows_max, std::int64_t vocabulary) {
  const auto rows = static_cast<std::size_t>(rows_max);
  DrawRows out(vocabulary);
  PLEIAD_TRY(host_rules, PinnedBuffer::allocate(rows * sizeof(DrawRule), "rules of draws"));
  PLEIAD_TRY(rules, DeviceBuffer::allocate(rows * sizeof(DrawRule), "rules of draws"));
  PLEIAD_TRY(host_drawn, PinnedBuffer::allocate(rows * sizeof(DrawnToken), "drawn tokens"));
  PLEIAD_TRY(drawn, DeviceBuffer::allocate(rows * sizeof(DrawnToken), "drawn tokens"));
  PLEIAD_TRY(
      scratch,
      DeviceBuffer::allocate(
          kernels::cuda::draw_scratch_bytes(rows_max, vocabulary), "sums of logits"
      )
  );
  out.host_rules_ = std::move(host_rules);
  out.rules_ = std::move(rules);
  out.host_drawn_ = std::move(host_drawn);
  out.drawn_ = std::move(drawn);
  out.scratch_ = std::move(scratch);
  return out;
}

void DrawRows::upload(
    device::cuda::Stream& stream,
    std::span<const Draw> draws,
    std::int64_t rows
) {
  const auto rules = host_rules_.as<DrawRule>();
  for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
    rules[row] = row < draws.size() ? rule_of(draws[row]) : DrawRule{};
  }
  const std::size_t bytes = static_cast<std::size_t>(rows) * sizeof(DrawRule);
  stream.copy_to_device(rules_.data(), rules.data(), bytes);
}

void DrawRows::run(device::cuda::Stream& stream, const float* logits, std::int64_t rows) const {
  kernels::cuda::draw_tokens(
      stream,
      {.logits = logits,
       .rows = rows,
       .vocabulary = vocabulary_,
       .rules = rules_.as<DrawRule>(),
       .drawn = drawn_.as<DrawnToken>(),
       .scratch = scratch_.data()}
  );
}

void DrawRows::download(device::cuda::Stream& stream, std::int64_t rows) {
  const std::size_t bytes = static_cast<std::size_t>(rows) * sizeof(DrawnToken);
  stream.copy_to_host(host_drawn_.data(), drawn_.data(), bytes);
}

Drawn DrawRows::drawn(std::int64_t row) const {
  const DrawnToken& drawn = host_drawn_.as<const DrawnToken>()[static_cast<std::size_t>(row)];
  if (drawn.token < 0) return {};
  return {
      .done = true,
      .token = static_cast<TokenId>(drawn.token),
      .logit = drawn.logit,
      .log_mass = drawn.log_mass,
  };
}

}  // namespace pleiad::model::cuda
