#include "model/tensor_exchange.h"

#include <cstring>
#include <span>

#include "base/check.h"
#include "kernels/row_codec.h"
#include "kernels/row_ops.h"

namespace pleiad::model {
namespace {

constexpr std::string_view kRows = "gather of rows between tensor parts";
constexpr std::string_view kEnd = "end of a step of tensor parts";

std::size_t bytes_of(std::int64_t values, device::DType dtype) {
  return static_cast<std::size_t>(values) * device::size_of(dtype);
}

Result<void> check_size(std::size_t got, std::size_t due, std::string_view step) {
  if (got == due) return {};
  return corrupt("{}: {} bytes came, {} were due", step, got, due);
}

// The dense columns beside the others.
void place_columns(const TensorColumns& columns, const PartRange& range, float* y) {
  for (std::int64_t row = 0; row < columns.rows; ++row) {
    std::memcpy(
        y + row * columns.width + range.begin,
        columns.own + row * range.count,
        bytes_of(range.count, device::DType::F32)
    );
  }
}

}  // namespace

TensorExchange::TensorExchange(
    const TensorPlace& place,
    const Limits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : place_(place) {
  if (place.parts == 1) return;
  const auto reserve = [&](std::string_view name, std::size_t floats) {
    return plan.reserve(name, floats * sizeof(float), first, last);
  };
  gathered_ = reserve("gathered columns", limits.gathered_floats);
  messages_ = {
      reserve("message to tensor parts", limits.part_floats),
      reserve("message to tensor parts, in turn", limits.part_floats)};
  received_ = reserve("message of a tensor part", limits.part_floats);
}

void TensorExchange::begin_step(comm::Group* group) {
  PLEIAD_CHECK(place_.parts == 1 || group != nullptr, "tensor parts are ranks of a group");
  group_ = group;
  marks_ = {};
}

Result<void> TensorExchange::end_step() {
  if (place_.parts == 1) return {};
  PLEIAD_TRY(group_->wait_sends(kEnd));
  marks_ = {};
  return {};
}

PartRange TensorExchange::columns_of(const TensorColumns& columns, std::int32_t part) const {
  const PartRange units = part_of(columns.width / columns.unit, place_.parts, part);
  return {units.begin * columns.unit, units.count * columns.unit};
}

// The message that was sent before the last one: peers that sent their part of the last one have
// taken it, so this does not wait.
Result<std::span<std::byte>> TensorExchange::next_message(device::Scratch& memory) {
  turn_ = 1 - turn_;
  if (marks_[turn_] > 0) PLEIAD_TRY(group_->wait_sends(kRows, marks_[turn_]));
  return memory.get<std::byte>(messages_[turn_]);
}

void TensorExchange::send_to_peers(std::span<const std::byte> message) {
  for (std::int32_t part = 0; part < place_.parts; ++part) {
    if (part != place_.part) group_->send(place_.first_rank + part, message);
  }
  marks_[turn_] = group_->sends();
}

Result<void> TensorExchange::receive_columns(
    const kernels::Context& context,
    device::Scratch& memory,
    const TensorColumns& columns,
    std::int32_t part,
    float* y
) {
  const PartRange range = columns_of(columns, part);
  if (range.count == 0) return {};
  const auto buffer = memory.get<std::byte>(received_);
  const std::size_t due = bytes_of(columns.rows * range.count, columns.dtype);
  PLEIAD_TRY(size, group_->receive(place_.first_rank + part, buffer.first(due), columns.step));
  PLEIAD_TRY(check_size(size, due, columns.step));
  kernels::unpack_rows(
      context,
      {.bytes = buffer.data(),
       .dtype = columns.dtype,
       .rows = columns.rows,
       .width = range.count,
       .y = y + range.begin,
       .y_stride = columns.width}
  );
  return {};
}

Result<const float*> TensorExchange::gather(
    const kernels::Context& context,
    device::Scratch& memory,
    const TensorColumns& columns
) {
  if (place_.parts == 1) return columns.own;
  const PartRange own = columns_of(columns, place_.part);
  float* y = memory.get<float>(gathered_).data();
  if (own.count > 0) {
    PLEIAD_TRY(message, next_message(memory));
    kernels::pack_rows(
        context,
        {.x = columns.own,
         .rows = columns.rows,
         .width = own.count,
         .dtype = columns.dtype,
         .out = message.data()}
    );
    send_to_peers(message.first(bytes_of(columns.rows * own.count, columns.dtype)));
    place_columns(columns, own, y);
  }
  for (std::int32_t part = 0; part < place_.parts; ++part) {
    if (part != place_.part) PLEIAD_TRY(receive_columns(context, memory, columns, part, y));
  }
  return y;
}

Result<void> TensorExchange::add(
    const kernels::Context& context,
    device::Scratch& memory,
    const TensorColumns& columns,
    float* residual
) {
  PLEIAD_TRY(all, gather(context, memory, columns));
  kernels::add_rows(context, all, columns.rows * columns.width, residual);
  return {};
}

Result<void> TensorExchange::collect(
    const kernels::Context& context,
    device::Scratch& memory,
    const TensorColumns& columns,
    float* y
) {
  const PartRange own = columns_of(columns, place_.part);
  if (place_.leads()) {
    place_columns(columns, own, y);
    for (std::int32_t part = 1; part < place_.parts; ++part) {
      PLEIAD_TRY(receive_columns(context, memory, columns, part, y));
    }
    return {};
  }
  if (own.count == 0) return {};
  PLEIAD_TRY(message, next_message(memory));
  kernels::pack_rows(
      context,
      {.x = columns.own,
       .rows = columns.rows,
       .width = own.count,
       .dtype = columns.dtype,
       .out = message.data()}
  );
  group_->send(place_.first_rank, message.first(bytes_of(columns.rows * own.count, columns.dtype)));
  marks_[turn_] = group_->sends();
  return {};
}

Result<void> TensorExchange::gather_rows(
    device::Scratch& memory,
    float* y,
    std::int64_t rows,
    std::int64_t width
) {
  if (place_.parts == 1) return {};
  const PartRange own = part_of(rows, place_.parts, place_.part);
  const auto bytes_of_rows = [&](const PartRange& range) {
    return std::as_writable_bytes(
        std::span(y + range.begin * width, static_cast<std::size_t>(range.count * width))
    );
  };
  if (own.count > 0) {
    PLEIAD_TRY(message, next_message(memory));
    const auto bytes = bytes_of_rows(own);
    std::memcpy(message.data(), bytes.data(), bytes.size());
    send_to_peers(message.first(bytes.size()));
  }
  for (std::int32_t part = 0; part < place_.parts; ++part) {
    const PartRange range = part_of(rows, place_.parts, part);
    if (part == place_.part || range.count == 0) continue;
    const auto bytes = bytes_of_rows(range);
    PLEIAD_TRY(size, group_->receive(place_.first_rank + part, bytes, kRows));
    PLEIAD_TRY(check_size(size, bytes.size(), kRows));
  }
  return {};
}

}  // namespace pleiad::model
