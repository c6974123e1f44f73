#include "apps/config_arguments.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::apps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ConfigArguments : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(testing::TempDir()) / (std::string(info->name()) + ".config");
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string file(const std::string& text) {
    std::ofstream(path_) << text;
    return path_.string();
  }

  std::string notes_;

 private:
  std::filesystem::path path_;
};

TEST_F(ConfigArguments, WithoutTheFlagNothingChanges) {
  EXPECT_THAT(
      with_config_file({"serve", "m", "--port", "1"}, notes_).value(),
      ElementsAre("serve", "m", "--port", "1")
  );
}

TEST_F(ConfigArguments, TheFilesFlagsStandBehindTheVerbAndBeforeTheRest) {
  const std::string path = file("ep_size: 4\nport: 0\nenable-two-batch-overlap: true\n");
  EXPECT_THAT(
      with_config_file({"serve", "m", "--config", path, "--port", "1"}, notes_).value(),
      ElementsAre(
          "serve", "--ep-size=4", "--port=0", "--enable-two-batch-overlap=true", "m", "--port", "1"
      )
  );
  EXPECT_THAT(
      with_config_file({"serve", "--config=" + path}, notes_).value(),
      ElementsAre("serve", "--ep-size=4", "--port=0", "--enable-two-batch-overlap=true")
  );
  EXPECT_EQ(notes_, "");
}

TEST_F(ConfigArguments, AMindieFileTellsWhatBecameOfEveryKey) {
  const std::string path = file(
      R"({"ModelDeployConfig": {"maxSeqLen": 256, "ModelConfig": [{"modelWeightPath": "models/fable",
          "worldSize": 2, "moe_ep": 2, "backendType": "atb",
          "models": {"deepseekv2": {"ep_level": 2}}}]}})"
  );
  const auto arguments = with_config_file({"serve", "--config", path}, notes_).value();

  EXPECT_THAT(arguments, testing::Contains("--model=models/fable"));
  EXPECT_THAT(arguments, testing::Contains("--ep-size=2"));
  EXPECT_THAT(arguments, testing::Contains("--ep-level=2"));
  EXPECT_THAT(notes_, HasSubstr("backendType"));
}

TEST_F(ConfigArguments, WhatIsWrongNamesTheFile) {
  EXPECT_THAT(
      with_config_file({"serve", "--config", "/nowhere/x.yaml"}, notes_).error().message,
      HasSubstr("/nowhere/x.yaml")
  );
  const std::string path = file("ep_size: [1\n");
  EXPECT_THAT(
      with_config_file({"serve", "--config", path}, notes_).error().message, HasSubstr(path)
  );
  EXPECT_THAT(
      with_config_file({"serve", "--config"}, notes_).error().message, HasSubstr("needs a file")
  );
  EXPECT_THAT(
      with_config_file({"serve", "--config", path, "--config", path}, notes_).error().message,
      HasSubstr("twice")
  );
}

}  // namespace
}  // namespace pleiad::apps
