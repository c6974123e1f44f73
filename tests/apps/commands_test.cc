// The program as a user runs it. Also the place of the verbs' bad input.
// Also tests: main.cc, serve_command.cc, chat_command.cc, plan_command.cc, inspect_command.cc
// Also tests: quantize_command.cc
#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pleiad::apps {
namespace {

struct Outcome {
  int code = -1;
  std::string output;  // stdout and stderr
};

Outcome pleiad(const std::string& arguments) {
  const std::string command = std::string(PLEIAD_BINARY) + " " + arguments + " 2>&1";
  Outcome out;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer{};
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    out.output.append(buffer.data(), got);
  }
  const int status = pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

std::string fable() {
  return std::string(PLEIAD_SOURCE_DIR) + "/models/fable";
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Commands, HelpNamesVerbsFlagsAndDefaults) {
  EXPECT_TRUE(contains(pleiad("--help").output, "serve"));
  const Outcome serve = pleiad("serve --help");
  EXPECT_EQ(serve.code, 0);
  for (const char* flag :
       {"--port",
        "8000",
        "--max-num-seqs",
        "128",
        "--dtype",
        "--api-key",
        "--mem-fraction-static"}) {
    EXPECT_TRUE(contains(serve.output, flag)) << flag;
  }
  EXPECT_TRUE(contains(pleiad("chat --help").output, "--max-tokens"));
}

TEST(Commands, InspectTellsWhatAFolderHoldsAndWhatIsWrong) {
  const Outcome good = pleiad("inspect " + fable());
  EXPECT_EQ(good.code, 0) << good.output;
  EXPECT_TRUE(contains(good.output, "32 experts, 4 per token"));
  const Outcome json = pleiad("inspect --json " + fable());
  EXPECT_TRUE(contains(json.output, "\"problems\":[]")) << json.output;
  const Outcome bad = pleiad("inspect /nonexistent");
  EXPECT_EQ(bad.code, 1);
  EXPECT_TRUE(contains(bad.output, "would be refused: /nonexistent is not a model folder"));
}

TEST(Commands, QuantizeWritesAFolderThatInspectTakes) {
  const std::string out = testing::TempDir() + "pleiad-quantize-" + std::to_string(::getpid());
  const Outcome made = pleiad("quantize --scheme int4-g32 " + fable() + " " + out);
  EXPECT_EQ(made.code, 0) << made.output;
  EXPECT_TRUE(contains(made.output, "100 %")) << made.output;
  EXPECT_EQ(pleiad("inspect " + out).code, 0);
  const Outcome again = pleiad("quantize --scheme int4-g32 " + fable() + " " + out);
  EXPECT_EQ(again.code, 1);
  EXPECT_TRUE(contains(again.output, "already holds a model"));
  EXPECT_NE(pleiad("quantize --scheme int5 " + fable() + " " + out).code, 0);
  std::filesystem::remove_all(out);
}

TEST(Commands, VersionIsOneLine) {
  EXPECT_TRUE(pleiad("version").output.starts_with("pleiad 0."));
  EXPECT_EQ(pleiad("version").code, 0);
}

TEST(Commands, BadArgumentsFailAndSayWhy) {
  EXPECT_NE(pleiad("").code, 0);
  EXPECT_NE(pleiad("frobnicate").code, 0);
  EXPECT_TRUE(contains(pleiad("serve x --dtype float64").output, "float64"));
  EXPECT_TRUE(contains(pleiad("serve x --port banana").output, "banana"));
  EXPECT_TRUE(contains(pleiad("serve x --device tpu").output, "cuda:INDEX"));
  EXPECT_TRUE(contains(pleiad("serve x --device cuda:7").output, "--device cuda"));
  EXPECT_TRUE(contains(pleiad("serve x --no-such-flag").output, "--no-such-flag"));
}

TEST(Commands, ServeNamesTheFolderThatIsMissing) {
  const Outcome out = pleiad("serve /no/such/model --port 0");

  EXPECT_EQ(out.code, 1);
  EXPECT_TRUE(contains(out.output, "/no/such/model"));
}

TEST(Commands, ServeRefusesToBeOpenByAccident) {
  const Outcome out = pleiad("serve " + fable() + " --port 0 --host 0.0.0.0");

  EXPECT_EQ(out.code, 1);
  EXPECT_TRUE(contains(out.output, "--allow-unauthenticated"));
}

TEST(Commands, ServeRefusesMissingKeyFilesAndHugeContexts) {
  EXPECT_TRUE(contains(pleiad("serve " + fable() + " --api-key-file /no/keys").output, "/no/keys"));
  EXPECT_TRUE(
      contains(pleiad("serve " + fable() + " --port 0 --max-model-len 100000").output, "4096")
  );
}

TEST(Commands, ChatServesAFolderForOneQuestion) {
  const Outcome out =
      pleiad("chat " + fable() + " -m 'Tell me a story about a fox.' --max-tokens 12 --seed 1");

  EXPECT_EQ(out.code, 0) << out.output;
  EXPECT_TRUE(contains(out.output, "12 tokens"));
  EXPECT_TRUE(contains(out.output, "tok/s"));
}

TEST(Commands, TheSameSeedTellsTheSameStory) {
  const std::string arguments =
      "chat " + fable() + " -m 'Tell me a story.' --max-tokens 20 --seed 3";
  const auto story = [&] {
    const std::string output = pleiad(arguments).output;
    return output.substr(0, output.find('['));
  };

  EXPECT_EQ(story(), story());
}

TEST(Commands, PlanLayoutReportsBytesAndTraffic) {
  const Outcome out =
      pleiad("plan layout " + fable() + " --ep-size 4 --ep-level 2 --device-memory 1gb");

  EXPECT_EQ(out.code, 0) << out.output;
  EXPECT_TRUE(contains(out.output, "fable: 6 layers (5 with experts), 32 experts, top-4"));
  EXPECT_TRUE(contains(out.output, "dp 4 x tp 1 = ep 4 x moe_tp 1, ep_level 2"));
  EXPECT_TRUE(contains(out.output, "8 experts in each layer"));
  EXPECT_TRUE(out.output.ends_with("fits\n"));
}

TEST(Commands, PlanLayoutSpeaksJson) {
  const Outcome out = pleiad("plan layout " + fable() + " --ep-size 2 --json");

  EXPECT_EQ(out.code, 0) << out.output;
  EXPECT_TRUE(out.output.starts_with("{\"model\":\"fable\",\"fits\":true"));
}

TEST(Commands, PlanLayoutRefusesWithTheNearestValidValue) {
  const std::string plan = "plan layout " + fable();
  Outcome out = pleiad(plan + " --tp-size 3 --ep-size 8");
  EXPECT_EQ(out.code, 1);
  EXPECT_TRUE(contains(out.output, "nearest valid: 2 and 4"));
  out = pleiad(plan + " --ep-size 2 --device-memory 1mb");
  EXPECT_EQ(out.code, 1);
  EXPECT_TRUE(contains(out.output, "nearest --device-memory"));
  EXPECT_TRUE(contains(pleiad(plan + " --ep-level 3").output, "1 (AllGather), 2 (AllToAll)"));
  EXPECT_TRUE(contains(pleiad(plan + " --moe-tp-size 3").output, "nearest valid: 2 and 4"));
  EXPECT_TRUE(
      contains(pleiad(plan + " --alltoall-ep-buffer-scale-factors '[[8,1]]'").output, "must be 0")
  );
  EXPECT_TRUE(contains(pleiad("plan layout /no/such/model").output, "/no/such/model"));
  EXPECT_NE(pleiad("plan").code, 0);
}

TEST(Commands, ChatSaysWhenNobodyListens) {
  const Outcome out = pleiad("chat http://127.0.0.1:1 -m hello");

  EXPECT_EQ(out.code, 1);
  EXPECT_TRUE(contains(out.output, "127.0.0.1"));
}

}  // namespace
}  // namespace pleiad::apps
