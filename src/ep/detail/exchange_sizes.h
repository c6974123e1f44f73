#pragma once

#include <cstddef>
#include <cstdint>

#include "device/dtype.h"
#include "ep/expert_exchange.h"
#include "ep/row_message.h"

namespace pleiad::ep {

// Sizes of an exchange, derived once.
struct ExpertExchange::Sizes {
  RankPlace place;
  std::int64_t hidden = 0;
  std::int64_t topk = 0;
  bool has_shared = false;
  std::int64_t rows_max = 0;   // own rows of a batch
  std::int64_t lane_rows = 0;  // rows that one message holds
  std::int64_t work_rows = 0;  // rows that one round brings to this rank
  std::int64_t pass_max = 0;   // assignments computed at once
  RowFormat format;            // of dispatch messages
  device::DType result_dtype = device::DType::F32;
  std::size_t message_bytes = 0;  // of a full dispatch message
  std::size_t results_bytes = 0;  // of the results of one

  [[nodiscard]] std::int32_t ep_rank() const { return place.rank / place.moe_tp; }
  [[nodiscard]] std::int32_t shard() const { return place.rank % place.moe_tp; }
  // The expert-parallel rank that `peer` computes for.
  [[nodiscard]] std::int32_t holder_of(std::int32_t peer) const { return peer / place.moe_tp; }
  [[nodiscard]] bool sharded() const { return place.moe_tp > 1; }
  [[nodiscard]] std::size_t result_row_bytes() const {
    return static_cast<std::size_t>(hidden) * device::size_of(result_dtype);
  }
};

// Element `index` of an array of pieces of `size` elements.
template <typename T>
[[nodiscard]] T* slice(std::span<T> all, std::size_t index, std::size_t size) {
  return all.data() + index * size;
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace pleiad::ep
