#include "sim/key_transfer.h"

namespace pleiad::sim {

KeyAssembly::KeyAssembly(
    std::uint64_t transfer,
    std::int64_t first,
    std::int64_t end,
    Defect defect
)
    : transfer_(transfer), first_(first), end_(end), defect_(defect) {}

KeyAssembly::Taken KeyAssembly::take(const KeyRecord& record) {
  const bool fenced = defect_ != Defect::TakesAnyTransfer;
  if (fenced && record.transfer != transfer_) return Taken::Nothing;
  switch (record.kind) {
    case KeyRecord::Kind::Failed:
      return Taken::Failed;
    case KeyRecord::Kind::Commit:
      if (defect_ == Defect::BelievesCommits) return Taken::Committed;
      return next() == end_ && record.records == records_ ? Taken::Committed : Taken::Corrupt;
    case KeyRecord::Kind::Keys:
      break;
  }
  const auto count = static_cast<std::int64_t>(record.tokens.size());
  if (fenced && record.first + count <= next()) return Taken::Nothing;
  const bool due = record.first == next() && record.first + count <= end_;
  if (fenced && !due && defect_ != Defect::BelievesCommits) return Taken::Corrupt;
  tokens_.insert(tokens_.end(), record.tokens.begin(), record.tokens.end());
  ++records_;
  return defect_ == Defect::ReadsEarly ? Taken::Committed : Taken::Nothing;
}

}  // namespace pleiad::sim
