// Also tests: mindie_keys.cc
#include "plan/mindie_config.h"

#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::plan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string example(const std::string& name) {
  std::ifstream in(std::string(PLEIAD_SOURCE_DIR) + "/tests/plan/data/" + name);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

MindieConfig read(std::string_view text) {
  return read_mindie_config(parse_json(text).value()).value();
}

// A model with these keys, and a family with those.
MindieConfig with_model(const std::string& keys) {
  return read("{\"ModelConfig\": [{" + keys + "}]}");
}

MindieConfig with_family(const std::string& keys) {
  return with_model("\"models\": {\"deepseekv2\": {" + keys + "}}");
}

const MindieEntry& entry(const MindieConfig& config, std::string_view key) {
  for (const MindieEntry& candidate : config.entries) {
    if (candidate.path.ends_with(key)) return candidate;
  }
  ADD_FAILURE() << "no entry " << key;
  return config.entries.front();
}

std::string refusal(const MindieConfig& config) {
  const auto checked = config.check();
  return checked.ok() ? "" : checked.error().message;
}

FlagSetting flag(std::string name, std::string value) {
  return {std::move(name), {std::move(value)}};
}

TEST(MindieConfig, TheManualsExampleOfLevel2IsMappedWhole) {
  const MindieConfig config = read(example("mindie_ep_level_2.json"));

  EXPECT_EQ(refusal(config), "");
  EXPECT_THAT(
      config.flags(),
      ElementsAre(
          flag("max-model-len-limit", "2560"),
          flag("served-model-name", "DeepSeek-R1_w8a8"),
          flag("model", "/data/weights/DeepSeek-R1_w8a8"),
          flag("ep-size", "8"),
          flag("ep-level", "2"),
          flag(
              "alltoall-ep-buffer-scale-factors",
              "[[1048576,1.32],[524288,1.4],[262144,1.53],[131072,1.8],[32768,3.0],[8192,5.2],[0,8."
              "0]]"
          )
      )
  );
  EXPECT_EQ(config.entries.size(), 14U);  // as many as the example has keys with values
}

TEST(MindieConfig, TheManualsExampleOfLevel1IsMappedWhole) {
  const MindieConfig config = read(example("mindie_ep_level_1.json"));

  EXPECT_EQ(refusal(config), "");
  EXPECT_THAT(
      config.flags(),
      ElementsAre(
          flag("max-model-len-limit", "66000"),
          flag("served-model-name", "DeepSeek-R1_w8a8"),
          flag("model", "/data/weights/DeepSeek-R1_w8a8"),
          flag("ep-size", "8"),
          flag("ep-level", "1"),
          flag("enable-init-routing-cutoff", "true"),
          flag("topk-scaling-factor", "0.25")
      )
  );
  EXPECT_EQ(config.entries.size(), 15U);
}

TEST(MindieConfig, EveryIgnoredKeySaysWhy) {
  for (const char* name : {"mindie_ep_level_1.json", "mindie_ep_level_2.json"}) {
    for (const MindieEntry& each : read(example(name)).entries) {
      EXPECT_NE(each.outcome, MindieOutcome::Unknown) << each.path;
      EXPECT_EQ(each.reason.empty(), each.outcome == MindieOutcome::Mapped) << each.path;
    }
  }
}

TEST(MindieConfig, IsFoundInsideAWholeServerConfigToo) {
  const MindieConfig config = read(
      R"({"Version": "1", "BackendConfig": {"npuDeviceIds": [[0]],
          "ModelDeployConfig": {"maxSeqLen": 5, "ModelConfig": [{"modelName": "m"}]}}})"
  );

  EXPECT_THAT(
      config.flags(), ElementsAre(flag("max-model-len-limit", "5"), flag("served-model-name", "m"))
  );
  EXPECT_EQ(entry(config, "Version").outcome, MindieOutcome::Unknown);
  EXPECT_EQ(entry(config, "BackendConfig.npuDeviceIds").outcome, MindieOutcome::Unknown);
  EXPECT_EQ(config.entries.back().path, "BackendConfig.ModelDeployConfig.ModelConfig[0].modelName");
}

TEST(MindieConfig, OtherObjectsAreNone) {
  for (const char* text : {"{}", "[]", "3", R"({"ep-size": 8})", R"({"ModelDeployConfig": 3})"}) {
    EXPECT_FALSE(is_mindie_config(parse_json(text).value())) << text;
    EXPECT_FALSE(read_mindie_config(parse_json(text).value()).ok()) << text;
  }
}

TEST(MindieConfig, UnknownKeysAreReportedAndNearOnesSuggested) {
  const MindieConfig config =
      read(R"({"max_seq_len": 5, "ModelConfig": [{"epLevel": 1, "models": {"glm": {"a": 1}}}]})");

  EXPECT_THAT(config.flags(), IsEmpty());
  EXPECT_THAT(entry(config, "max_seq_len").reason, HasSubstr("did you mean maxSeqLen?"));
  EXPECT_EQ(entry(config, "epLevel").outcome, MindieOutcome::Unknown);
  EXPECT_EQ(entry(config, "models.glm").outcome, MindieOutcome::Unknown);
  EXPECT_EQ(refusal(config), "");
}

struct RefusalCase {
  std::string keys;
  std::string says;
};

TEST(MindieConfig, ModelKeysOutOfRangeAreRefused) {
  const RefusalCase cases[] = {
      {R"("modelInstanceType": "StandardMock")", "\"Standard\""},
      {R"("modelName": "")", "modelName is a string; it must be a text of 1"},
      {R"("modelWeightPath": 3)", "modelWeightPath is a integer"},
      {R"("worldSize": 0)", "nearest valid value 1"},
      {R"("worldSize": 8, "moe_ep": 4)", "must equal moe_ep 4 * moe_tp 1, nearest valid value 4"},
      {R"("worldSize": 8, "moe_ep": 8, "moe_tp": 2)", "nearest valid value 16"},
      {R"("worldSize": 7, "moe_tp": 2)", "a multiple of moe_tp 2, nearest valid value 8"},
      {R"("moe_ep": 100000)", "nearest valid value 4096"},
      {R"("moe_tp": "2")", "moe_tp is \"2\""},
      {R"("tp": -2)", "tp is -2"},
      {R"("pp": 2)", "nearest valid value 1"},
      {R"("cpuMemSize": -1)", "nearest valid value 0"},
      {R"("npuMemSize": 0)", "-1 (automatic)"},
      {R"("npuMemSize": -2)", "nearest valid value -1"},
      {R"("backendType": 1)", "backendType is a integer"},
      {R"("trustRemoteCode": "no")", "true or false"},
      {R"("models": 1)", "it must be an object"},
  };
  for (const RefusalCase& each : cases)
    EXPECT_THAT(refusal(with_model(each.keys)), HasSubstr(each.says)) << each.keys;
}

TEST(MindieConfig, EpKeysOutOfRangeOrOutOfPlaceAreRefused) {
  const RefusalCase cases[] = {
      {R"("ep_level": 0)", "ep_level is 0; it must be a whole number from 1 to 2"},
      {R"("ep_level": 3)", "nearest valid value 2"},
      {R"("enable_init_routing_cutoff": 1)", "true or false"},
      {R"("ep_level": 2, "enable_init_routing_cutoff": true)", "needs ep_level 1"},
      {R"("enable_init_routing_cutoff": true, "topk_scaling_factor": 0)", "(0, 1]"},
      {R"("enable_init_routing_cutoff": true, "topk_scaling_factor": 1.5)", "valid value 1"},
      {R"("topk_scaling_factor": 0.5)", "without enable_init_routing_cutoff"},
      {R"("ep_level": 2, "topk_scaling_factor": 0.5)", "needs ep_level 1"},
      {R"("ep_level": 2, "alltoall_ep_buffer_scale_factors": [[8, 1]])", "must be 0"},
      {R"("ep_level": 1, "alltoall_ep_buffer_scale_factors": [[0, -1]])", "above 0"},
      {R"("eplb": {"level": 2})", "nearest valid value 0"},
      {R"("eplb": 3)", "it must be an object"},
  };
  for (const RefusalCase& each : cases)
    EXPECT_THAT(refusal(with_family(each.keys)), HasSubstr(each.says)) << each.keys;
}

TEST(MindieConfig, DeployKeysOutOfRangeAreRefused) {
  const auto deploy = [](const std::string& keys) {
    return refusal(read("{\"ModelConfig\": [{\"moe_ep\": 1}], " + keys + "}"));
  };

  EXPECT_THAT(
      deploy(R"("maxSeqLen": 10, "maxInputTokenLen": 11)"),
      AllOf(HasSubstr("must not exceed maxSeqLen 10"), HasSubstr("nearest valid value 10"))
  );
  EXPECT_EQ(deploy(R"("maxSeqLen": 10, "maxInputTokenLen": 10)"), "");
  EXPECT_THAT(deploy(R"("maxSeqLen": 0)"), HasSubstr("nearest valid value 1"));
  EXPECT_THAT(deploy(R"("maxSeqLen": null)"), HasSubstr("is null"));
  EXPECT_THAT(deploy(R"("truncation": true)"), HasSubstr("set false"));
  EXPECT_THAT(deploy(R"("truncation": 0)"), HasSubstr("true or false"));
}

TEST(MindieConfig, ExactlyOneModelIsServed) {
  for (const char* list : {"[]", "[{}, {}]", "{}", "[3]", "[{}]"}) {
    EXPECT_NE(refusal(read(std::string("{\"ModelConfig\": ") + list + "}")), "") << list;
  }
}

TEST(MindieConfig, AllRefusalsAreToldAtOnce) {
  EXPECT_THAT(
      refusal(with_model(R"("worldSize": 0, "pp": 3)")),
      AllOf(HasSubstr("ModelConfig[0].worldSize is 0"), HasSubstr("ModelConfig[0].pp is 3"))
  );
}

TEST(MindieConfig, SizesMemoryAndAutomaticValues) {
  EXPECT_THAT(
      with_model(R"("worldSize": 8, "moe_tp": 2, "tp": -1, "dp": 8, "npuMemSize": 20)").flags(),
      ElementsAre(
          flag("ep-size", "4"),
          flag("moe-tp-size", "2"),
          flag("dp-size", "8"),
          flag("kv-cache-bytes", "20gb")
      )
  );
  EXPECT_EQ(
      entry(with_family(R"("eplb": {"level": 0, "num_redundant_experts": 0})"), "redundant_experts")
          .outcome,
      MindieOutcome::Ignored
  );
}

TEST(MindieConfig, BufferScalesWithoutEffectAreIgnoredAsMindieDoes) {
  const MindieConfig config =
      with_family(R"("ep_level": 1, "alltoall_ep_buffer_scale_factors": [[0, 8.0]])");

  EXPECT_THAT(entry(config, "scale_factors").reason, HasSubstr("ep_level 2 only"));
  EXPECT_THAT(config.flags(), ElementsAre(flag("ep-level", "1")));
}

TEST(MindieConfig, TheTextTellsWhatBecameOfEveryKey) {
  const std::string text = read(example("mindie_ep_level_1.json")).to_text();

  EXPECT_THAT(text, HasSubstr("maxSeqLen = 66000 -> --max-model-len-limit 66000\n"));
  EXPECT_THAT(text, HasSubstr("backendType = \"atb\" ignored: "));
}

TEST(MindieConfig, LongValuesAreCutBetweenCharacters) {
  std::string name;
  for (int i = 0; i < 40; ++i) {
    name += "\xE4\xB8\x93";
  }

  const std::string text = with_model("\"backendType\": \"" + name + "\"").to_text();

  EXPECT_THAT(text, HasSubstr("\xE4\xB8\x93... ignored"));
}

}  // namespace
}  // namespace pleiad::plan
