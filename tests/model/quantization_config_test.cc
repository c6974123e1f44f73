#include "model/quantization_config.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::model {
namespace {

using kernels::WeightFormat;
using ::testing::HasSubstr;

Result<QuantizationConfig> parse(const std::string& quantization) {
  return parse_quantization_config(
      parse_json(R"({"quantization_config":)" + quantization + "}").value()
  );
}

std::string refusal(const std::string& quantization) {
  const auto parsed = parse(quantization);
  return parsed.ok() ? "accepted" : parsed.error().message;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// As DeepSeek-V3.1 has it.
const char* fp8() {
  return R"({"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8",
    "scale_fmt":"ue8m0","weight_block_size":[128,128]})";
}

// As Kimi-K2-Thinking has it.
const char* int4() {
  return R"({"config_groups":{"group_0":{"input_activations":null,"output_activations":null,
    "targets":["Linear"],"weights":{"actorder":null,"block_structure":null,"dynamic":false,
    "group_size":32,"num_bits":4,"observer":"minmax","observer_kwargs":{},"strategy":"group",
    "symmetric":true,"type":"int"}}},"format":"pack-quantized","ignore":["lm_head"],
    "kv_cache_scheme":null,"quant_method":"compressed-tensors"})";
}

const char* int8() {
  return R"({"config_groups":{"group_0":{"input_activations":{"dynamic":true,"num_bits":8,
    "strategy":"token","symmetric":true,"type":"int"},"targets":["Linear"],"weights":{
    "dynamic":false,"num_bits":8,"strategy":"channel","symmetric":true,"type":"int"}}},
    "format":"int-quantized","ignore":["lm_head"],"quant_method":"compressed-tensors"})";
}

TEST(QuantizationConfig, IsPlainWhereNothingIsSaid) {
  EXPECT_EQ(parse_quantization_config(Json(JsonObject{}))->format, WeightFormat::Plain);
  EXPECT_EQ(parse("null")->format, WeightFormat::Plain);
}

TEST(QuantizationConfig, ReadsWhatIsPublished) {
  ASSERT_TRUE(parse(fp8()).ok()) << parse(fp8()).error().message;
  EXPECT_EQ(parse(fp8())->format, WeightFormat::Fp8Block);
  const auto blocks = parse(replaced(fp8(), "[128,128]", "[64,256]"));
  EXPECT_EQ(blocks->scale_rows, 64);
  EXPECT_EQ(blocks->scale_columns, 256);
  ASSERT_TRUE(parse(int4()).ok()) << parse(int4()).error().message;
  EXPECT_EQ(parse(int4())->format, WeightFormat::Int4Group32);
  ASSERT_TRUE(parse(int8()).ok()) << parse(int8()).error().message;
  EXPECT_EQ(parse(int8())->format, WeightFormat::Int8Channel);
  EXPECT_EQ(
      parse(R"({"quant_method":"mxfp4","modules_to_not_convert":["lm_head"]})")->format,
      WeightFormat::MxFp4
  );
}

TEST(QuantizationConfig, RefusesOtherMethodsByName) {
  for (const std::string method : {"awq", "gptq", "bitsandbytes", "fbgemm_fp8"}) {
    const std::string message = refusal(R"({"quant_method":")" + method + R"("})");
    EXPECT_THAT(message, HasSubstr("quantization_config.quant_method = " + method));
    EXPECT_THAT(message, HasSubstr("mxfp4"));
  }
  EXPECT_THAT(refusal("{}"), HasSubstr("(missing)"));
  EXPECT_THAT(refusal("7"), HasSubstr("must be an object"));
}

TEST(QuantizationConfig, RefusesOtherKindsOfFp8) {
  EXPECT_THAT(refusal(replaced(fp8(), "e4m3", "e5m2")), HasSubstr("fmt = e5m2"));
  EXPECT_THAT(refusal(replaced(fp8(), "dynamic", "static")), HasSubstr("= static"));
  EXPECT_THAT(refusal(replaced(fp8(), "ue8m0", "other")), HasSubstr("scale_fmt = other"));
  for (const std::string block : {"[128]", "[128,100]", "[0,128]", "null", "\"128\"", "[128,-8]"}) {
    EXPECT_THAT(
        refusal(replaced(fp8(), "[128,128]", block)), HasSubstr("weight_block_size = " + block)
    );
  }
  EXPECT_THAT(refusal(R"({"quant_method":"fp8"})"), HasSubstr("weight_block_size = (missing)"));
}

TEST(QuantizationConfig, RefusesOtherKindsOfIntegers) {
  EXPECT_THAT(
      refusal(replaced(int4(), "\"group_size\":32", "\"group_size\":128")), HasSubstr("128")
  );
  EXPECT_THAT(
      refusal(replaced(int4(), "\"symmetric\":true", "\"symmetric\":false")), HasSubstr("symmetric")
  );
  EXPECT_THAT(
      refusal(replaced(int4(), "\"num_bits\":4", "\"num_bits\":8")), HasSubstr("num_bits = 8")
  );
  EXPECT_THAT(
      refusal(replaced(int4(), "\"actorder\":null", "\"actorder\":\"group\"")),
      HasSubstr("actorder")
  );
  EXPECT_THAT(
      refusal(replaced(int4(), "\"input_activations\":null", "\"input_activations\":{}")),
      HasSubstr("input_activations")
  );
  EXPECT_THAT(
      refusal(replaced(int4(), "pack-quantized", "float-quantized")), HasSubstr("float-quantized")
  );
  EXPECT_THAT(
      refusal(replaced(int4(), "\"kv_cache_scheme\":null", "\"kv_cache_scheme\":{}")),
      HasSubstr("kv_cache_scheme")
  );
  EXPECT_THAT(
      refusal(replaced(int8(), "\"dynamic\":true", "\"dynamic\":false")),
      HasSubstr("dynamic = false")
  );
  EXPECT_THAT(refusal(replaced(int8(), "channel", "tensor")), HasSubstr("strategy = tensor"));
  EXPECT_THAT(refusal(replaced(int8(), "\"token\"", "\"tensor\"")), HasSubstr("strategy = tensor"));
  EXPECT_THAT(
      refusal(R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":
        {"a":{},"b":{}}})"),
      HasSubstr("one group")
  );
}

}  // namespace
}  // namespace pleiad::model
