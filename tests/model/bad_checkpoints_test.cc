// Checkpoints that are broken in one place, in every storage format: each is refused by name from
// its headers and scales alone.
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/checkpoint_quantizer.h"
#include "model/model.h"
#include "tests/model/model_harness.h"
#include "tests/model/mxfp4_checkpoint.h"
#include "tests/model/tensor_files.h"
#include "weights/read_file.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;
using testing::NamedTensor;
using weights::QuantScheme;
using weights::testing::Folder;

// A whole model, to be broken.
struct Model {
  Json config;
  std::vector<NamedTensor> tensors;

  static Model read(const std::filesystem::path& folder) {
    const auto checkpoint = weights::Checkpoint::open(folder).value();
    const std::string text = weights::read_text_file(folder / "config.json", 1U << 20U).value();
    return {parse_json(text).value(), testing::read_tensors(*checkpoint)};
  }

  [[nodiscard]] NamedTensor& at(const std::string& name) {
    const auto found = std::ranges::find(tensors, name, &NamedTensor::name);
    PLEIAD_CHECK(found != tensors.end(), name);
    return *found;
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const NamedTensor& tensor) { return tensor.name == name; });
  }

  // Why it would not be loaded.
  [[nodiscard]] std::string refusal() const {
    const Folder folder("broken");
    testing::write_tensors(folder, tensors);
    const auto checkpoint = weights::Checkpoint::open(folder.path());
    if (!checkpoint.ok()) return checkpoint.error().message;
    const auto checked = find_architecture(config).value()->check(config, **checkpoint, {});
    return checked.ok() ? "accepted" : checked.error().message;
  }
};

// A model in one storage format, and where one matrix of it lies.
struct Stored {
  std::string format;
  Model model;
  std::string codes;
  std::string scales;
  std::string nan;  // bytes of a scale that is no number
};

Model quantised(const char* family, QuantScheme scheme) {
  const Folder folder("quantised");
  device::ThreadPool pool(1);
  const auto report = quantize_checkpoint(
      golden_folder() / family, folder.path() / "out", {.scheme = scheme, .pool = &pool}
  );
  PLEIAD_CHECK(report.ok());
  return Model::read(folder.path() / "out");
}

Model mxfp4() {
  const Folder coded("coded");
  const Folder plain("plain");
  testing::write_mxfp4_gpt_oss(coded, plain);
  return Model::read(coded.path());
}

std::vector<Stored> all_formats() {
  const std::string matrix = "model.layers.1.mlp.experts.0.up_proj.weight";
  const std::string nan_f32("\x00\x00\xc0\x7f", 4);
  const std::string nan_bf16("\xc0\x7f", 2);
  return {
      {"fp8",
       Model::read(golden_folder() / "deepseek_v3_fp8"),
       matrix,
       matrix + "_scale_inv",
       nan_f32},
      {"w8a8", quantised("deepseek_v3", QuantScheme::W8A8), matrix, matrix + "_scale", nan_f32},
      {"int4",
       quantised("deepseek_v3", QuantScheme::Int4Group32),
       matrix + "_packed",
       matrix + "_scale",
       nan_bf16},
      {"mxfp4",
       mxfp4(),
       "model.layers.1.mlp.experts.down_proj_blocks",
       "model.layers.1.mlp.experts.down_proj_scales",
       "\xff"},
  };
}

// The same bytes in a shape that nothing has.
void misshape(NamedTensor& tensor) {
  if (tensor.shape.size() == 4) {
    tensor.shape[2] *= tensor.shape[3];
    tensor.shape.pop_back();
  } else {
    tensor.shape.push_back(1);
  }
}

TEST(BadCheckpoints, EveryFormatIsAcceptedWhole) {
  for (const Stored& stored : all_formats()) {
    EXPECT_EQ(stored.model.refusal(), "accepted") << stored.format;
  }
}

TEST(BadCheckpoints, AScaleThatIsMissingMisshapenOrNoNumberIsNamedInEveryFormat) {
  for (const Stored& whole : all_formats()) {
    SCOPED_TRACE(whole.format);
    const auto broken = [&](const std::function<void(Stored&)>& damage) {
      Stored copy = whole;
      damage(copy);
      return copy.model.refusal();
    };
    const std::string matrix = whole.scales.substr(0, whole.scales.rfind('_'));

    EXPECT_THAT(
        broken([](Stored& it) { it.model.remove(it.scales); }),
        HasSubstr("no tensor " + whole.scales)
    );
    EXPECT_THAT(
        broken([](Stored& it) { misshape(it.model.at(it.scales)); }),
        HasSubstr("tensor " + whole.scales + " has shape [")
    );
    EXPECT_THAT(
        broken([](Stored& it) { it.model.at(it.scales).dtype = "I16"; }), HasSubstr(whole.scales)
    );
    const std::string nan = broken([](Stored& it) {
      std::string& bytes = it.model.at(it.scales).bytes;
      bytes.replace(bytes.size() - it.nan.size(), it.nan.size(), it.nan);
    });
    EXPECT_THAT(nan, HasSubstr(matrix.substr(0, matrix.rfind('_'))));
    EXPECT_THAT(nan, HasSubstr("is nan, which makes its largest weight not finite"));
  }
}

TEST(BadCheckpoints, CodesThatAreMissingOrMisshapenAreNamedInEveryFormat) {
  for (const Stored& whole : all_formats()) {
    SCOPED_TRACE(whole.format);
    Stored missing = whole;
    missing.model.remove(missing.codes);
    // Without its codes a matrix is looked for as it is without quantisation.
    const std::string plain = whole.scales.substr(0, whole.scales.rfind("_scale"));
    EXPECT_THAT(missing.model.refusal(), HasSubstr("no tensor " + plain));

    Stored misshapen = whole;
    misshape(misshapen.model.at(misshapen.codes));
    EXPECT_THAT(misshapen.model.refusal(), HasSubstr("tensor " + whole.codes + " has shape ["));
  }
}

TEST(BadCheckpoints, APlainTensorThatIsMissingMisshapenOrOfAnotherTypeIsNamed) {
  const Model whole = Model::read(golden_folder() / "qwen3_moe");
  for (const char* name :
       {"model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.experts.3.down_proj.weight"}) {
    Model missing = whole;
    missing.remove(name);
    EXPECT_THAT(missing.refusal(), HasSubstr(std::string("no tensor ") + name));
    Model misshapen = whole;
    misshape(misshapen.at(name));
    EXPECT_THAT(misshapen.refusal(), HasSubstr(std::string("tensor ") + name + " has shape ["));
    Model integers = whole;
    integers.at(name).dtype = "I16";
    EXPECT_THAT(integers.refusal(), HasSubstr(std::string("tensor ") + name + " is I16"));
  }
}

TEST(BadCheckpoints, ABrokenFileIsNamedWithItsTensor) {
  const Model whole = Model::read(golden_folder() / "qwen3_moe");
  Model twice = whole;
  twice.tensors.push_back(twice.tensors[5]);
  EXPECT_THAT(twice.refusal(), HasSubstr("duplicate key \"" + twice.tensors[5].name));
  Model shorter = whole;
  shorter.tensors[5].bytes.pop_back();
  EXPECT_THAT(shorter.refusal(), HasSubstr("tensor \"" + shorter.tensors[5].name + "\""));
}

TEST(BadCheckpoints, AnIndexThatNamesAMissingFileIsRefused) {
  const Folder folder;
  folder.write(
      "model.safetensors.index.json", R"({"weight_map": {"model.norm.weight": "gone.safetensors"}})"
  );

  const auto opened = weights::Checkpoint::open(folder.path());

  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message, HasSubstr("gone.safetensors: no such file"));
}

}  // namespace
}  // namespace pleiad::model
