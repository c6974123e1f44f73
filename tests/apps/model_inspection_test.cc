// Also tests: model_inspection_text.cc
#include "apps/model_inspection.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace pleiad::apps {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::filesystem::path root() {
  return PLEIAD_SOURCE_DIR;
}

// A copy of a golden folder whose files may be changed; gone with the object.
class Folder {
 public:
  explicit Folder(const std::string& family) {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            ("pleiad-inspection-" + std::to_string(::getpid()) + test->name());
    std::filesystem::copy(root() / "tests/golden" / family, path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
  }

 private:
  std::filesystem::path path_;
};

TEST(ModelInspection, TellsTheBundledModel) {
  const ModelInspection seen = inspect_model(root() / "models/fable");

  EXPECT_THAT(seen.problems, IsEmpty());
  EXPECT_EQ(seen.architecture, "DeepseekV3ForCausalLM");
  EXPECT_EQ(seen.layers, 6);
  EXPECT_EQ(seen.moe_layers, 5);
  EXPECT_EQ(seen.experts, 32);
  EXPECT_EQ(seen.tokens, 4096);
  EXPECT_TRUE(seen.chat_template);
  EXPECT_EQ(seen.bos_token, "<|bos|>");
  EXPECT_THAT(seen.even_ep_sizes, ElementsAre(1, 2, 4, 8, 16, 32));
  EXPECT_THAT(seen.moe_tp_sizes, ElementsAre(1, 2, 4));
  EXPECT_THAT(seen.tp_sizes, ElementsAre(1, 2, 4, 8));
  // (128 + 32) elements of two bytes in each of 6 layers, as docs/ and the cache have it.
  EXPECT_EQ(seen.kv_bytes_bfloat16 * 2, seen.kv_bytes_float32);
  // A token meets 4 of 32 experts and all the rest.
  std::int64_t routed = 0;
  for (const auto& share : seen.shares) {
    if (share.role == "experts") routed += share.parameters;
  }
  EXPECT_EQ(seen.parameters - seen.active_parameters, routed * 28 / 32);
  EXPECT_GT(*seen.packed_bytes_float32, *seen.packed_bytes_bfloat16);
}

TEST(ModelInspection, KnowsEveryFamily) {
  for (const char* family :
       {"deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "kimi_k2", "mixtral", "qwen3_moe"}) {
    const ModelInspection seen = inspect_model(root() / "tests/golden" / family);
    // They come without a tokenizer.
    EXPECT_THAT(seen.problems, ElementsAre(HasSubstr("--skip-tokenizer-init"))) << family;
    EXPECT_TRUE(seen.packed_bytes_float32.has_value()) << family;
    EXPECT_GT(seen.parameters, seen.active_parameters) << family;
  }
}

TEST(ModelInspection, NotesEveryProblemItCanReach) {
  const Folder folder("mixtral");
  folder.write("tokenizer.json", "{");
  std::filesystem::resize_file(folder.path() / "model.safetensors", 1000);

  const ModelInspection seen = inspect_model(folder.path());

  EXPECT_THAT(seen.problems, Contains(HasSubstr("tokenizer.json")));
  EXPECT_THAT(seen.problems, Contains(HasSubstr("model.safetensors")));
  EXPECT_EQ(seen.experts, 8);
}

TEST(ModelInspection, TellsTheSizesOfAnArchitectureItDoesNotKnow) {
  const Folder folder("mixtral");
  folder.write("config.json", R"({"architectures": ["GoatForCausalLM"], "num_hidden_layers": 2})");

  const ModelInspection seen = inspect_model(folder.path());

  EXPECT_EQ(seen.architecture, "GoatForCausalLM");
  EXPECT_THAT(seen.problems, Contains(HasSubstr("GoatForCausalLM is not supported")));
  EXPECT_GT(seen.parameters, 0);
  EXPECT_THAT(seen.shares, Contains(testing::Field(&ModelInspection::Share::role, "unused")));
}

TEST(ModelInspection, NamesTheTensorThatIsMissing) {
  const Folder folder("qwen3_moe");
  std::ifstream in(folder.path() / "config.json");
  Json config = parse_json(std::string{std::istreambuf_iterator<char>(in), {}}).value();
  config.set("num_hidden_layers", 4);
  folder.write("config.json", config.dump());

  const ModelInspection seen = inspect_model(folder.path());

  EXPECT_THAT(seen.problems, Contains(HasSubstr("model.layers.3.input_layernorm.weight")));
  EXPECT_FALSE(seen.packed_bytes_float32.has_value());
}

TEST(ModelInspection, TextAndJsonSayTheSame) {
  const ModelInspection seen = inspect_model(root() / "models/fable");
  const std::string text = to_text(seen);
  EXPECT_THAT(text, HasSubstr("6, 5 of them with 32 experts, 4 per token"));
  EXPECT_THAT(text, HasSubstr("even: 1, 2, 4, 8, 16, 32"));
  EXPECT_THAT(text, HasSubstr("not needed: " + std::to_string(seen.unread.further_layers)));
  EXPECT_GT(seen.unread.further_layers, 0);
  const Json json = to_json(seen);
  EXPECT_EQ(json.find("experts")->as_int(), 32);
  EXPECT_EQ(json.find("parameters")->as_int(), seen.parameters);
  EXPECT_EQ(json.find("tensors")->as_array()->size(), seen.shares.size());
}

}  // namespace
}  // namespace pleiad::apps
