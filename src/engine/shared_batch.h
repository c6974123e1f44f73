#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "comm/group.h"
#include "model/model.h"
#include "model/tensor_parts.h"

namespace pleiad::engine {

// Gives the ranks of a tensor parallel group the same rows: the one that leads has scheduled them,
// and sends what the others need to run them. All memory is taken at construction. One thread at a
// time, and one group of ranks for life.
class SharedBatch {
 public:
  struct Limits {
    std::int64_t rows_max = 0;       // of a step
    std::int64_t sequences_max = 0;  // of a step
    std::int64_t logit_rows_max = 0;
    std::int64_t context_max = 0;  // positions of a sequence
    std::int64_t vocabulary = 0;
    std::int64_t pages = 0;  // of the KV cache
  };

  SharedBatch(const model::TensorPlace& place, const Limits& limits);

  // The leading rank's: tells the others. `batch` is copied.
  Result<void> send(comm::Group& group, const model::Batch& batch);
  // The others': the rows of the leading rank's step, without room for logits; valid until the next
  // call. Fails with Corrupt when `rows` is not what came, or a number is outside the limits.
  Result<model::Batch> receive(comm::Group& group, std::int64_t rows);

 private:
  Result<void> read(std::span<const std::byte> bytes, std::int64_t rows);

  const model::TensorPlace place_;
  const Limits limits_;
  std::vector<std::byte> message_;
  std::uint64_t mark_ = 0;  // sends of the group after which message_ is free
  std::vector<TokenId> tokens_;
  std::vector<std::int64_t> positions_;
  std::vector<model::AttentionRow> rows_;
  std::vector<std::int32_t> logit_rows_;
  std::vector<std::uint32_t> pages_;  // page tables, one after the other
};

}  // namespace pleiad::engine
