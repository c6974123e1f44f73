#include "weights/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::weights {
namespace {

using device::DType;
using ::testing::HasSubstr;
using testing::safetensors_bytes;

Result<SafetensorsHeader> parse(const std::string& bytes, const SafetensorsLimits& limits = {}) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), limits);
}

struct Refusal {
  ErrorKind kind = ErrorKind::Internal;
  std::string message = "accepted";
};

Refusal refusal(std::string_view header, std::size_t data_bytes) {
  const auto parsed = parse(safetensors_bytes(header, data_bytes));
  if (parsed.ok()) return {};
  return {parsed.error().kind, parsed.error().message};
}

void expect_corrupt(std::string_view header, std::size_t data_bytes, const std::string& words) {
  const Refusal refused = refusal(header, data_bytes);
  EXPECT_THAT(refused.message, HasSubstr(words)) << header;
  EXPECT_EQ(refused.kind, ErrorKind::Corrupt) << header;
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("late":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
                             R"("early":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

  const auto parsed = parse(safetensors_bytes(header, 20));

  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->data_offset, 8 + header.size());
  ASSERT_EQ(parsed->tensors.size(), 2U);
  EXPECT_EQ(parsed->tensors[0].name, "early");
  EXPECT_EQ(parsed->tensors[0].dtype, DType::F32);
  EXPECT_EQ(parsed->tensors[1].name, "late");
  EXPECT_EQ(parsed->tensors[1].shape, (device::Shape{.extents = {2, 3}, .rank = 2}));
  EXPECT_EQ(parsed->tensors[1].begin, 8U);
  EXPECT_EQ(parsed->tensors[1].end, 20U);
}

TEST(Safetensors, ReadsScalarsAndEmptyTensorsAndPaddedHeaders) {
  const auto parsed = parse(safetensors_bytes(
      R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}}   )",
      4
  ));

  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->tensors.size(), 2U);
}

TEST(Safetensors, RefusesFilesTooShortForTheirHeader) {
  EXPECT_THAT(parse("").error().message, HasSubstr("0 bytes are too few"));
  EXPECT_THAT(parse("1234567").error().message, HasSubstr("7 bytes are too few"));
  std::string cut = safetensors_bytes("{}", 0);
  cut.pop_back();
  EXPECT_THAT(parse(cut).error().message, HasSubstr("reaches past the end of the file (9)"));
  EXPECT_THAT(
      parse(std::string(8, '\xFF')).error().message, HasSubstr("at most 100000000 are read")
  );
}

TEST(Safetensors, RefusesEveryTruncationOfAGoodFile) {
  const std::string whole =
      safetensors_bytes(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 9);
  ASSERT_TRUE(parse(whole).ok());

  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto parsed = parse(whole.substr(0, size));
    ASSERT_FALSE(parsed.ok()) << size;
    EXPECT_EQ(parsed.error().kind, ErrorKind::Corrupt) << size;
  }
}

TEST(Safetensors, RefusesHeadersThatAreNoTableOfTensors) {
  expect_corrupt("[]", 0, "header is a array");
  expect_corrupt("{", 0, "header: ");
  expect_corrupt(R"({"a":7})", 0, "tensor \"a\": is a integer");
  expect_corrupt(R"({"a":{"dtype":"F32","shape":[]}})", 0, "other members than");
  expect_corrupt(
      R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":0}})", 1, "other members than"
  );
  expect_corrupt(R"({"__metadata__":[]})", 0, "__metadata__ is a array");
  expect_corrupt(R"({"__metadata__":{"a":1}})", 0, "__metadata__ \"a\" is a integer");
}

TEST(Safetensors, RefusesShapesThatDoNotFillTheirBytes) {
  const auto header = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return fmt::format(
        R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets
    );
  };
  expect_corrupt(
      header("\"F32\"", "[2]", "[0,4]"), 4, "shape [2] of F32 does not fill bytes [0, 4)"
  );
  expect_corrupt(header("\"F32\"", "[-1]", "[0,4]"), 4, "extent -1 of the shape is no count");
  expect_corrupt(header("\"F32\"", "[1.0]", "[0,4]"), 4, "is no count");
  expect_corrupt(header("\"F32\"", "{}", "[0,4]"), 4, "shape is a object");
  expect_corrupt(header("3", "[1]", "[0,4]"), 4, "dtype is a integer");
  expect_corrupt(header("\"F32\"", "[1]", "[4,0]"), 4, "are no span");
  expect_corrupt(header("\"F32\"", "[1]", "[0]"), 4, "not an array of two");
  expect_corrupt(header("\"F32\"", "[1]", "[0,\"4\"]"), 4, "are no span");
  expect_corrupt(header("\"F32\"", "[2]", "[0,8]"), 4, "reach past the end of the data (4)");
}

TEST(Safetensors, RefusesSizesThatOverflow) {
  const auto shaped = [](std::string_view shape, std::string_view end) {
    return fmt::format(R"({{"a":{{"dtype":"F32","shape":{},"data_offsets":[0,{}]}}}})", shape, end);
  };
  expect_corrupt(shaped("[4294967296,4294967296]", "0"), 0, "does not fill");
  expect_corrupt(shaped("[9223372036854775807,4]", "16"), 16, "does not fill");
  expect_corrupt(shaped("[4611686018427387904]", "0"), 0, "does not fill");
  expect_corrupt(shaped("[1]", "18446744073709551615"), 4, "are no span");
  expect_corrupt(shaped("[18446744073709551615]", "4"), 4, "is no count");
}

TEST(Safetensors, RefusesOverlapsGapsAndLeftovers) {
  const auto two = [](int a_begin, int a_end, int b_begin, int b_end) {
    return fmt::format(
        R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
        R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
        a_end - a_begin,
        a_begin,
        a_end,
        b_end - b_begin,
        b_begin,
        b_end
    );
  };
  EXPECT_EQ(refusal(two(0, 4, 4, 8), 8).message, "accepted");
  expect_corrupt(two(0, 4, 3, 8), 8, "tensor \"b\": overlaps its neighbour");
  expect_corrupt(two(0, 4, 0, 4), 4, "overlaps its neighbour");
  expect_corrupt(two(0, 4, 5, 8), 8, "bytes [4, 5) before it belong to no tensor");
  expect_corrupt(two(1, 4, 4, 8), 8, "bytes [0, 1) before it");
  expect_corrupt(two(0, 4, 4, 8), 9, "1 bytes after the last tensor");
}

TEST(Safetensors, RefusesANameThatStandsThereTwiceEvenAmongMany) {
  expect_corrupt(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
      2,
      "duplicate"
  );
  std::string header = "{";
  for (int i = 0; i < 3000; ++i) {
    header += fmt::format(
        R"("t{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}},)", i % 2999, i, i + 1
    );
  }
  header.back() = '}';
  expect_corrupt(header, 3000, "t0");
}

TEST(Safetensors, SaysWhatIsNotSupportedByName) {
  const Refusal rank =
      refusal(R"({"conv":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[0,1]}})", 1);
  EXPECT_EQ(rank.kind, ErrorKind::Unsupported);
  EXPECT_THAT(rank.message, HasSubstr("tensor \"conv\": rank 5, at most 4"));

  const Refusal dtype = refusal(R"({"z":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", 8);
  EXPECT_EQ(dtype.kind, ErrorKind::Unsupported);
  EXPECT_THAT(dtype.message, HasSubstr("tensor \"z\": dtype \"C64\""));
}

TEST(Safetensors, KeepsErrorTextsShortAndPrintable) {
  const std::string name(5000, 'n');
  const Refusal refused = refusal(fmt::format(R"({{"\n{}":1}})", name), 0);

  EXPECT_LT(refused.message.size(), 300U);
  EXPECT_THAT(refused.message, HasSubstr("\\n"));
}

TEST(Safetensors, HonoursItsLimits) {
  const std::string two = safetensors_bytes(
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
      R"("b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      0
  );
  ASSERT_TRUE(parse(two).ok());

  EXPECT_THAT(parse(two, {.tensors_max = 1}).error().message, HasSubstr("2 tensors, at most 1"));
  EXPECT_THAT(parse(two, {.header_bytes_max = 50}).error().message, HasSubstr("at most 50"));
}

}  // namespace
}  // namespace pleiad::weights
