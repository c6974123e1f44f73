#include "model/model_config.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/checkpoint_quantizer.h"
#include "model/model.h"
#include "tests/model/model_harness.h"
#include "tests/model/tensor_files.h"
#include "weights/read_file.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;
using testing::NamedTensor;
using weights::testing::Folder;

std::string refusal(const Folder& folder) {
  const auto config = read_model_config(folder.path());
  return config.ok() ? "accepted" : config.error().message;
}

TEST(ReadModelConfig, ADescriptionBesideItBecomesItsQuantization) {
  const Folder folder;
  folder.write("config.json", R"({"num_hidden_layers": 1})");
  EXPECT_EQ(read_model_config(folder.path())->find("quantization_config"), nullptr);
  folder.write("quant_model_description_w8a8_dynamic.json", R"({"model.norm.weight": "FLOAT"})");

  const Json config = read_model_config(folder.path()).value();

  const Json* quantization = config.find("quantization_config");
  EXPECT_EQ(*quantization->find("quant_method"), Json("ascend"));
  EXPECT_NE(quantization->find("description")->find("model.norm.weight"), nullptr);
}

TEST(ReadModelConfig, NamesWhatIsMissingMalformedOrContradicts) {
  const Folder folder;
  EXPECT_THAT(refusal(folder), HasSubstr("config.json: no such file"));
  folder.write("config.json", "[]");
  EXPECT_THAT(refusal(folder), HasSubstr("config.json: a array, not an object"));
  folder.write("config.json", R"({"quantization_config": {"quant_method": "fp8"}})");
  folder.write("quant_model_description.json", "{");
  EXPECT_THAT(refusal(folder), HasSubstr("another method"));
  folder.write("config.json", R"({"quantization_config": {"quant_method": "ascend"}})");
  EXPECT_THAT(refusal(folder), HasSubstr("quant_model_description.json: "));
  folder.write("quant_model_description_w8a8.json", "{}");
  EXPECT_THAT(refusal(folder), HasSubstr("both describe the weights"));
  EXPECT_THAT(
      read_model_config(folder.path() / "none").error().message, HasSubstr("no such directory")
  );
}

// A golden model in eight bits, and the same as Ascend's tools would have written it.
class AscendFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    device::ThreadPool pool(1);
    const auto report = quantize_checkpoint(
        golden_folder() / "glm4_moe", usual(), {.scheme = weights::QuantScheme::W8A8, .pool = &pool}
    );
    ASSERT_TRUE(report.ok()) << report.error().message;
    tensors_ = testing::read_tensors(*weights::Checkpoint::open(usual()).value());
    const std::vector<NamedTensor> stored = tensors_;
    for (const NamedTensor& tensor : stored) {
      const bool coded = tensor.dtype == "I8" || tensor.name.ends_with("_scale");
      description_.set(tensor.name, coded ? "W8A8_DYNAMIC" : "FLOAT");
      if (tensor.dtype != "I8") continue;
      description_.set(tensor.name + "_offset", "W8A8_DYNAMIC");
      const auto rows = static_cast<std::size_t>(tensor.shape.front());
      tensors_.push_back(
          {tensor.name + "_offset", "F32", {tensor.shape.front(), 1}, std::string(rows * 4, '\0')}
      );
    }
  }

  // The folder as it stands now.
  [[nodiscard]] const std::filesystem::path& write() const {
    testing::write_tensors(folder_, tensors_);
    std::filesystem::rename(
        folder_.path() / "model.safetensors", folder_.path() / "quant_model_weight_w8a8.safetensors"
    );
    folder_.write("quant_model_description.json", description_.dump());
    const std::string plain =
        weights::read_text_file(golden_folder() / "glm4_moe/config.json", 1U << 20U).value();
    folder_.write("config.json", plain);
    return folder_.path();
  }
  [[nodiscard]] std::string refusal() const {
    const auto config = read_model_config(write());
    const auto checkpoint = weights::Checkpoint::open(folder_.path());
    const auto checked = find_architecture(*config).value()->check(*config, **checkpoint, {});
    return checked.ok() ? "accepted" : checked.error().message;
  }
  [[nodiscard]] std::filesystem::path usual() const { return quantised_.path() / "out"; }
  NamedTensor& at(const std::string& name) {
    return *std::ranges::find(tensors_, name, &NamedTensor::name);
  }

  const std::string matrix_ = "model.layers.1.mlp.experts.0.up_proj.weight";
  std::vector<NamedTensor> tensors_;
  Json description_;

 private:
  Folder folder_{"ascend"};
  Folder quantised_{"usual"};
};

TEST_F(AscendFolder, AnswersLikeTheSameWeightsUnderTheUsualNames) {
  const GoldenTensors golden(golden_folder() / "glm4_moe/golden.safetensors");
  const auto prompt = golden.tokens("1.input_ids");

  EXPECT_EQ(ModelHarness::load(write()).logits(prompt), ModelHarness::load(usual()).logits(prompt));
}

TEST_F(AscendFolder, AnOffsetThatIsNotZeroIsRefused) {
  NamedTensor& offset = at(matrix_ + "_offset");
  offset.bytes[3] = '\x80';  // minus zero
  EXPECT_EQ(refusal(), "accepted");
  offset.bytes[6] = '\x01';
  EXPECT_THAT(refusal(), HasSubstr("tensor " + matrix_ + "_offset is not zero at output 1"));
  offset.shape = {1, 1};
  offset.bytes.resize(4);
  EXPECT_THAT(refusal(), HasSubstr(matrix_ + "_offset has shape [1, 1]"));
}

TEST_F(AscendFolder, ADescriptionThatIsNotTheWeightsIsRefused) {
  description_.set(matrix_, "FLOAT");
  EXPECT_THAT(refusal(), HasSubstr("tensor " + matrix_ + " is stored as"));
  description_.set(matrix_, "W8A8_DYNAMIC");
  EXPECT_EQ(refusal(), "accepted");
  description_.set("model.layers.0.mlp.gate_proj.weight", "W8A8");
  EXPECT_THAT(refusal(), HasSubstr("model.layers.0.mlp.gate_proj.weight is W8A8"));
  description_.set("model.layers.0.mlp.gate_proj.weight", "W8A8_DYNAMIC");
  description_.set("lm_head.weight", "W8A8_DYNAMIC");
  EXPECT_THAT(refusal(), HasSubstr("tensor lm_head.weight is stored as plain"));
}

}  // namespace
}  // namespace pleiad::model
