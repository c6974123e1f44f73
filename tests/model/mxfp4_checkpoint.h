#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "tests/model/dequantised.h"
#include "tests/weights/files.h"
#include "weights/checkpoint.h"
#include "weights/read_file.h"

// gpt-oss's golden checkpoint with its experts in MXFP4, as the family is published.
namespace pleiad::model::testing {

// [experts, columns, rows] in BF16 as [experts, rows, columns] in float.
inline std::vector<float> turned(const device::TensorView& view) {
  const std::int64_t rows = view.shape[2];
  const std::int64_t columns = view.shape[1];
  std::vector<float> out;
  for (std::int64_t i = 0; i < view.shape.elements(); ++i) {
    const std::int64_t expert = i / (rows * columns);
    const std::int64_t from = (expert * columns + i % columns) * rows + i / columns % rows;
    out.push_back(device::bf16_to_float(element_of<device::BF16>(view, from)));
  }
  return out;
}

// The other way round, of values with the shape of `view` turned.
inline std::vector<float>
turned_back(const device::TensorView& view, const std::vector<float>& values) {
  const std::int64_t rows = view.shape[2];
  const std::int64_t columns = view.shape[1];
  std::vector<float> out(values.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t expert = at / (rows * columns);
    const std::int64_t to = (expert * columns + at % columns) * rows + at / columns % rows;
    out[static_cast<std::size_t>(to)] = values[i];
  }
  return out;
}

// Writes the checkpoint with codes, and one with the floats that they stand for.
inline void
write_mxfp4_gpt_oss(const weights::testing::Folder& coded, const weights::testing::Folder& plain) {
  const std::filesystem::path golden =
      std::filesystem::path(PLEIAD_SOURCE_DIR) / "tests/golden/gpt_oss";
  const auto checkpoint = weights::Checkpoint::open(golden).value();
  std::vector<NamedTensor> codes;
  std::vector<NamedTensor> floats;
  for (const std::string& name : checkpoint->names()) {
    if (!name.ends_with("_proj")) {
      codes.push_back(dequantised(*checkpoint, name));
      floats.push_back(codes.back());
      continue;
    }
    const auto view = checkpoint->tensor(name).value();
    const std::int64_t experts = view.shape[0];
    const std::int64_t columns = view.shape[1];
    const std::int64_t rows = view.shape[2];
    const Mxfp4 out = to_mxfp4(turned(view));
    codes.push_back({name + "_blocks", "U8", {experts, rows, columns / 32, 16}, out.blocks});
    codes.push_back({name + "_scales", "U8", {experts, rows, columns / 32}, out.scales});
    floats.push_back(floats_named(name, {experts, columns, rows}, turned_back(view, out.values)));
  }
  write_tensors(coded, codes);
  write_tensors(plain, floats);
  const std::string text = weights::read_text_file(golden / "config.json", 1U << 20U).value();
  plain.write("config.json", text);
  Json config = parse_json(text).value();
  Json quantised;
  quantised.set("quant_method", "mxfp4");
  config.set("quantization_config", quantised);
  coded.write("config.json", config.dump());
}

}  // namespace pleiad::model::testing
