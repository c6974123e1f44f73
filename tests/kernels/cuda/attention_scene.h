#pragma once

#include <cstring>
#include <numeric>
#include <optional>

#include "kernels/cuda/paged_attention.h"
#include "tests/kernels/cuda/device_array.h"

// Sequences in a paged cache, for tests of attention on the GPU.
namespace pleiad::kernels::cuda::testing {

using device::DType;

// Latent attention where kv_heads is 0.
struct Model {
  std::int64_t heads = 1;
  std::int64_t kv_heads = 0;
  std::int64_t first = 0;  // elements of a query's first part, or of the latent
  std::int64_t second = 0;
  std::int64_t value = 0;
  std::int64_t window = 0;
  bool sinks = false;
  DType dtype = DType::F32;

  [[nodiscard]] AttentionPages pages() const {
    AttentionPages pages = kv_heads == 0 ? latent_pages(first, second)
                                         : grouped_pages(kv_heads, first + second, value);
    pages.dtype = dtype;
    return pages;
  }
};

struct Row {
  std::size_t sequence = 0;
  std::int64_t position = 0;
};

// Sequences in one cache with scattered pages, on the host and on the GPU.
class Scene {
 public:
  Scene(Random& random, const Model& model, const std::vector<std::int64_t>& lengths)
      : model_(model) {
    std::size_t pages = 0;
    for (const std::int64_t length : lengths) {
      begins_.push_back(static_cast<std::int32_t>(pages));
      pages += static_cast<std::size_t>((length + 63) / 64);
    }
    table_.resize(pages);
    std::iota(table_.rbegin(), table_.rend(), 0U);
    const auto line = static_cast<std::size_t>(model.pages().line);
    page_stride_ = (line * 64 * device::size_of(model.dtype) + 63) / 64 * 64;
    const Compute compute = model.dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
    host_.assign(page_stride_ * pages, std::byte{0xFF});
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      for (std::int64_t t = 0; t < lengths[s]; ++t) {
        const auto values = random_floats(random, line, compute);
        for (std::size_t i = 0; i < line; ++i) {
          put(s, t, i, values[i]);
        }
      }
    }
    memory_.emplace(std::span<const std::byte>(host_));
    device_table_.emplace(table_);
    query_stride_ = model.heads * (model.first + model.second);
    sinks_ = random_floats(random, static_cast<std::size_t>(model.heads), Compute::Float32);
    device_sinks_.emplace(sinks_);
  }

  // Outputs of the rows, whose queries follow from sequence and position.
  std::vector<float> run(const std::vector<Row>& rows, bool spread) {
    return run(rows, spread, plan());
  }

  // What the model's own plan is.
  [[nodiscard]] AttentionPlan plan() const {
    return attention_plan(attention_shape(
        {.query =
             {{{.rows = {}, .head_stride = 0, .width = model_.first},
               {.rows = {}, .head_stride = 0, .width = model_.second}}},
         .heads = model_.heads,
         .window = model_.window,
         .sinks = model_.sinks ? device_sinks_->data() : nullptr,
         .pages = model_.pages()}
    ));
  }

  std::vector<float> run(const std::vector<Row>& rows, bool spread, const AttentionPlan& plan) {
    const std::vector<float> query = queries(rows);
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> tables;
    for (const Row& row : rows) {
      positions.push_back(static_cast<std::int32_t>(row.position));
      tables.push_back(begins_[row.sequence]);
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t width = model_.pages().values.width;
    const DeviceActivations in(query, query_stride_, model_.dtype);
    const DeviceArray<std::int32_t> places(positions);
    const DeviceArray<std::int32_t> table_of(tables);
    const DeviceActivations out(
        poison(static_cast<std::size_t>(count * model_.heads * width)),
        model_.heads * width,
        model_.dtype
    );
    const std::int64_t scratch_rows = spread ? count : 0;
    const bool is_generic = plan.path == AttentionPath::Generic;
    const DeviceArray<float> scratch(poison(
        1 + (is_generic ? attention_scratch_floats(scratch_rows, model_.heads, width, kSplitsMax)
                        : attention_scratch_floats(plan, scratch_rows, model_.heads, width))
    ));
    const DeviceArray<std::byte> list(
        std::vector<std::byte>(attention_work_bytes(plan, count), std::byte{0xFF})
    );
    const AttentionWork work = attention_work_at(list.data(), plan, count);
    const RowPlaces row_places{
        .positions = places.data(), .table_of = table_of.data(), .tables = device_table_->data()};
    if (!is_generic) {
      list_attention_work(
          stream_,
          {.rows = count,
           .places = row_places,
           .plan = plan,
           .scratch_rows = scratch_rows,
           .work = work}
      );
    }
    AttentionPages pages = model_.pages();
    pages.base = memory_->data();
    pages.page_stride = page_stride_;
    paged_attention(
        stream_,
        {.query =
             {{{.rows = in.rows(),
                .head_stride = model_.first + model_.second,
                .width = model_.first},
               {.rows = in.rows().from(model_.first),
                .head_stride = model_.first + model_.second,
                .width = model_.second}}},
         .rows = count,
         .heads = model_.heads,
         .scale = 0.3F,
         .window = model_.window,
         .sinks = model_.sinks ? device_sinks_->data() : nullptr,
         .places = row_places,
         .pages = pages,
         .out = out.rows(),
         .scratch = scratch.data(),
         .scratch_rows = scratch_rows,
         .plan = plan,
         .work = work}
    );
    return out.values(stream_);
  }

  std::vector<float> reference(const std::vector<Row>& rows) {
    const std::vector<float> query = queries(rows);
    std::vector<AttentionRow> places;
    places.reserve(rows.size());
    for (const Row& row : rows) {
      places.push_back({table_.data() + begins_[row.sequence], row.position});
    }
    AttentionPages pages = model_.pages();
    pages.base = host_.data();
    pages.page_stride = page_stride_;
    auto out = poison(rows.size() * static_cast<std::size_t>(model_.heads * pages.values.width));
    const std::int64_t head = model_.first + model_.second;
    paged_attention_reference(
        {.query =
             {{{query.data(), query_stride_, head, model_.first},
               {query.data() + model_.first, query_stride_, head, model_.second}}},
         .rows = places,
         .heads = model_.heads,
         .scale = 0.3F,
         .window = model_.window,
         .sinks = model_.sinks ? sinks_.data() : nullptr,
         .pages = pages,
         .out = out.data()},
        Compute::Float32
    );
    return out;
  }

 private:
  void put(std::size_t sequence, std::int64_t token, std::size_t element, float value) {
    const std::size_t page =
        table_[static_cast<std::size_t>(begins_[sequence]) + static_cast<std::size_t>(token / 64)];
    const std::size_t index = static_cast<std::size_t>(token % 64 * model_.pages().line) + element;
    std::byte* base = host_.data() + page * page_stride_;
    if (model_.dtype == DType::F32) {
      std::memcpy(base + index * 4, &value, 4);
    } else {
      const device::BF16 bits = device::float_to_bf16(value);
      std::memcpy(base + index * 2, &bits, 2);
    }
  }

  std::vector<float> queries(const std::vector<Row>& rows) const {
    std::vector<float> query;
    const Compute compute = model_.dtype == DType::F32 ? Compute::Float32 : Compute::BFloat16;
    for (const Row& row : rows) {
      Random random(row.sequence * 100000 + static_cast<std::uint64_t>(row.position));
      const auto one = random_floats(random, static_cast<std::size_t>(query_stride_), compute);
      query.insert(query.end(), one.begin(), one.end());
    }
    return query;
  }

  Model model_;
  device::cuda::Stream stream_ = test_stream();
  std::vector<std::int32_t> begins_;
  std::vector<std::uint32_t> table_;
  std::size_t page_stride_ = 0;
  std::int64_t query_stride_ = 0;
  std::vector<std::byte> host_;
  std::vector<float> sinks_;
  std::optional<DeviceArray<std::byte>> memory_;
  std::optional<DeviceArray<std::uint32_t>> device_table_;
  std::optional<DeviceArray<float>> device_sinks_;
};

}  // namespace pleiad::kernels::cuda::testing
