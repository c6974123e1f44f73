#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "comm/group.h"
#include "device/arena_plan.h"
#include "device/dtype.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "model/tensor_parts.h"

namespace pleiad::model {

// An array [rows, width] of which each part has computed some columns.
struct TensorColumns {
  const float* own = nullptr;  // [rows, own columns], dense
  std::int64_t rows = 0;
  std::int64_t width = 0;
  // Columns are shared out in units of so many (a head, say); divides width.
  std::int64_t unit = 1;
  device::DType dtype = device::DType::F32;  // on the wire; BF16 only for rounded values
  std::string_view step;                     // names the exchange in errors; a literal
};

// The type in which rounded activations lose nothing on the wire.
inline device::DType wire_dtype(const kernels::Context& context) {
  return context.compute == kernels::Compute::BFloat16 ? device::DType::BF16 : device::DType::F32;
}

// Brings together what the ranks of one TensorPlace have computed apart. All of them make the same
// calls in the same order. One thread at a time; allocates nothing. Alone (one part) every call is
// free. Fails when a peer does, or when what came is not what was due.
class TensorExchange {
 public:
  struct Limits {
    std::size_t gathered_floats = 0;  // rows * width of the largest gather()
    std::size_t part_floats = 0;      // of the largest part of anything
  };

  // Reserves scratch alive from op `first` to op `last` of the caller's step.
  TensorExchange(
      const TensorPlace& place,
      const Limits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  [[nodiscard]] const TensorPlace& place() const { return place_; }
  // The calls up to the next one of begin_step() are over `group`, which may be null when alone.
  void begin_step(comm::Group* group);
  // Returns when nothing that this step sent is in use any more.
  Result<void> end_step();

  // All columns, [rows, width] dense, valid until the next call.
  Result<const float*>
  gather(const kernels::Context& context, device::Scratch& memory, const TensorColumns& columns);
  // residual [rows, width] += all columns.
  Result<void> add(
      const kernels::Context& context,
      device::Scratch& memory,
      const TensorColumns& columns,
      float* residual
  );
  // All columns into `y` [rows, width] of the part that leads; elsewhere y may be null.
  Result<void> collect(
      const kernels::Context& context,
      device::Scratch& memory,
      const TensorColumns& columns,
      float* y
  );
  // y [rows, width]: each part has computed the rows of part_of(rows, ...); afterwards all have
  // all.
  Result<void>
  gather_rows(device::Scratch& memory, float* y, std::int64_t rows, std::int64_t width);

 private:
  [[nodiscard]] PartRange columns_of(const TensorColumns& columns, std::int32_t part) const;
  Result<std::span<std::byte>> next_message(device::Scratch& memory);
  void send_to_peers(std::span<const std::byte> message);
  Result<void> receive_columns(
      const kernels::Context& context,
      device::Scratch& memory,
      const TensorColumns& columns,
      std::int32_t part,
      float* y
  );

  TensorPlace place_;
  comm::Group* group_ = nullptr;
  device::RegionId gathered_;                 // float [gathered_floats]
  std::array<device::RegionId, 2> messages_;  // bytes; take turns, so that one may be on its way
  std::array<std::uint64_t, 2> marks_{};      // sends after which the message is free
  std::size_t turn_ = 0;
  device::RegionId received_;  // bytes
};

}  // namespace pleiad::model
