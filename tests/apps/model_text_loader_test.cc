#include "apps/model_text_loader.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

namespace pleiad::apps {
namespace {

std::filesystem::path fable() {
  return std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";
}

// The bundled model's tokenizer with a tokenizer_config.json of its own; gone with the object.
class Folder {
 public:
  explicit Folder(const std::string& chat_template) {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            ("pleiad-text-" + std::to_string(::getpid()) + test->name());
    std::filesystem::create_directories(path_ / "additional_chat_templates");
    std::filesystem::copy_file(fable() / "tokenizer.json", path_ / "tokenizer.json");
    write("tokenizer_config.json", R"({"eos_token": "<|eos|>")" + chat_template + "}");
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
  }
  [[nodiscard]] server::ModelText load() const { return load_model_text({.model = path_}).value(); }
  [[nodiscard]] std::string refusal() const {
    const auto loaded = load_model_text({.model = path_});
    return loaded.ok() ? "" : loaded.error().message;
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::string render(const std::optional<text::ChatTemplate>& chat) {
  return chat ? chat->render({}).value().text : "(none)";
}

TEST(LoadModelText, TheTemplateIsAStringOfTheTokenizersConfig) {
  const Folder folder(R"(, "chat_template": "one {{ 1 + 1 }}")");

  const server::ModelText text = folder.load();

  EXPECT_EQ(render(text.chat_template), "one 2");
  EXPECT_FALSE(text.tool_template);
  EXPECT_EQ(text.eos_token, "<|eos|>");
}

TEST(LoadModelText, OfNamedTemplatesDefaultServesAllAndToolUseThoseWithTools) {
  const Folder folder(R"(, "chat_template": [
      {"name": "tool_use", "template": "tools"}, {"name": "rag", "template": "rag"},
      {"name": "default", "template": "plain"}, {"name": 7}, "stray"])");

  const server::ModelText text = folder.load();

  EXPECT_EQ(render(text.chat_template), "plain");
  EXPECT_EQ(render(text.tool_template), "tools");
}

TEST(LoadModelText, WithoutADefaultTheFirstNamedTemplateServes) {
  const Folder folder(R"(, "chat_template": [
      {"name": "tool_use", "template": "tools"}, {"name": "rag", "template": "rag"}])");
  EXPECT_EQ(render(folder.load().chat_template), "rag");

  folder.write(
      "tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "tools"}]})"
  );

  EXPECT_EQ(render(folder.load().chat_template), "tools");
}

TEST(LoadModelText, ATemplateFileGoesBeforeTheTokenizersConfig) {
  const Folder folder(R"(, "chat_template": [
      {"name": "default", "template": "{% not read"}, {"name": "tool_use", "template": "{% nor"}])"
  );
  folder.write("chat_template.jinja", "from the file\n");

  EXPECT_EQ(render(folder.load().chat_template), "from the file");
  EXPECT_FALSE(folder.load().tool_template);

  folder.write("additional_chat_templates/tool_use.jinja", "beside it");

  EXPECT_EQ(render(folder.load().tool_template), "beside it");
}

TEST(LoadModelText, TheSettingsFileGoesBeforeAll) {
  const Folder folder(R"(, "chat_template": [{"name": "tool_use", "template": "tools"}])");
  folder.write("chat_template.jinja", "from the file");
  folder.write("mine.jinja", "mine");

  const auto text =
      load_model_text({.model = folder.path(), .chat_template = folder.path() / "mine.jinja"});

  EXPECT_EQ(render(text.value().chat_template), "mine");
  EXPECT_FALSE(text.value().tool_template);
}

TEST(LoadModelText, WithoutATemplateThereIsNone) {
  EXPECT_FALSE(Folder("").load().chat_template);
}

TEST(LoadModelText, ABrokenTemplateIsRefusedByName) {
  const Folder folder(R"(, "chat_template": [
      {"name": "default", "template": "fine"}, {"name": "tool_use", "template": "{% if %}"}])");

  EXPECT_EQ(folder.refusal().find("chat template for tools: "), 0U) << folder.refusal();
}

TEST(LoadDefaultSampling, ComesFromTheCheckpoint) {
  const auto sampling = load_default_sampling(fable()).value();

  EXPECT_FLOAT_EQ(sampling.temperature, 0.8F);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.95F);
  EXPECT_FLOAT_EQ(load_default_sampling("/no/such/model").value().temperature, 1.0F);
}

}  // namespace
}  // namespace pleiad::apps
