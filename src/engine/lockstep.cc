#include "engine/lockstep.h"

#include <algorithm>
#include <utility>

#include "model/tensor_parts.h"

namespace pleiad::engine {
namespace {

// Far beyond any step; what lies above is no number of rows.
constexpr std::int64_t kRowsMax = std::int64_t{1} << 24U;

}  // namespace

Lockstep::Lockstep(std::unique_ptr<comm::Group> group, const LockstepOptions& options)
    : group_(std::move(group)),
      options_(options),
      announced_(static_cast<std::size_t>(group_->size())),
      rows_(announced_.size()) {}

Result<const ep::GroupStep*> Lockstep::agree(std::int64_t rows) {
  const Announcement mine{.step = ++step_, .rows = rows};
  PLEIAD_TRY(group_->all_gather(
      std::as_bytes(std::span(&mine, 1)),
      std::as_writable_bytes(std::span(announced_)),
      "the start of a step"
  ));
  rows_of_all_ = 0;
  std::int64_t most = 0;
  for (std::size_t rank = 0; rank < announced_.size(); ++rank) {
    const Announcement& said = announced_[rank];
    if (said.step != step_) {
      return corrupt("rank {} is at step {}, this rank at {}", rank, said.step, step_);
    }
    const std::size_t leader = leader_of(static_cast<comm::Rank>(rank));
    if (said.rows < 0 || said.rows > kRowsMax || (rank != leader && said.rows != 0)) {
      return corrupt("rank {} says that it brings {} rows", rank, said.rows);
    }
    const auto part = static_cast<std::int32_t>(rank - leader);
    const model::PartRange own =
        model::part_of(announced_[leader].rows, options_.tensor_parts, part);
    rows_[rank] = static_cast<std::int32_t>(own.count);
    rows_of_all_ += said.rows;
    most = std::max(most, said.rows);
  }
  const plan::EpSettings& settings = options_.settings;
  plan::EpLevel level = settings.level;
  if (level == plan::EpLevel::Auto) {
    level = rows_of_all_ >= options_.all_to_all_rows_min ? plan::EpLevel::AllToAll
                                                         : plan::EpLevel::AllGather;
  }
  agreed_ = {
      .group = group_.get(),
      .rows = rows_,
      .level = level,
      .two_batches = settings.two_batch_overlap && most >= settings.two_batch_tokens_min,
  };
  return &agreed_;
}

}  // namespace pleiad::engine
