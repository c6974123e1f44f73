#include "model/quantization_config.h"

#include <string>

#include "model/config_reader.h"
#include "model/weight_description.h"

namespace pleiad::model {
namespace {

using kernels::WeightFormat;

// Refuses `key` unless it is `wanted`; a missing one is.
void want_text(ConfigReader& reader, std::string_view key, std::string_view wanted) {
  const std::string value = reader.text_or(key, wanted);
  if (value != wanted) reader.refuse(key, value, wanted);
}

void want_integer(ConfigReader& reader, std::string_view key, std::int64_t wanted) {
  const std::int64_t value = reader.integer(key, 0);
  if (value != wanted) reader.refuse(key, std::to_string(value), std::to_string(wanted));
}

void want_flag(ConfigReader& reader, std::string_view key, bool wanted) {
  const bool value = reader.boolean_or(key, wanted);
  if (value != wanted) reader.refuse(key, value ? "true" : "false", wanted ? "true" : "false");
}

void want_none(ConfigReader& reader, std::string_view key) {
  if (reader.has(key)) reader.refuse(key, "(present)", "null");
}

// [rows, columns] that share a scale.
void read_block(const Json& object, ConfigReader& reader, QuantizationConfig& out) {
  const std::string_view key = "weight_block_size";
  const Json* value = object.find(key);
  const JsonArray* sizes = value == nullptr ? nullptr : value->as_array();
  const auto size_at = [&](std::size_t place) -> std::int64_t {
    const auto size = (*sizes)[place].as_int();
    const bool fine = size && *size > 0 && *size <= 65'536 && *size % 8 == 0;
    return fine ? *size : 0;
  };
  const bool two = sizes != nullptr && sizes->size() == 2;
  const std::int64_t rows = two ? size_at(0) : 0;
  const std::int64_t columns = two ? size_at(1) : 0;
  if (rows > 0 && columns > 0) {
    out.scale_rows = rows;
    out.scale_columns = columns;
    return;
  }
  reader.refuse(
      key,
      value == nullptr ? "(missing)" : value->dump(),
      "blocks such as [128, 128], both multiples of 8"
  );
}

Result<QuantizationConfig> read_fp8(const Json& object) {
  ConfigReader reader(object, "quantization_config.");
  QuantizationConfig out{.format = WeightFormat::Fp8Block};
  want_text(reader, "fmt", "e4m3");
  want_text(reader, "activation_scheme", "dynamic");
  const std::string scales = reader.text_or("scale_fmt", "float");
  if (scales != "float" && scales != "ue8m0") reader.refuse("scale_fmt", scales, "float, ue8m0");
  read_block(object, reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

// The only group of layers that a compressed-tensors config names.
Result<const Json*> only_group(const Json& object) {
  const Json* groups = object.find("config_groups");
  const JsonObject* members = groups == nullptr ? nullptr : groups->as_object();
  if (members == nullptr || members->size() != 1 || !members->front().second.is_object()) {
    return unsupported(
        "config.json: quantization_config.config_groups must hold one group; groups of layers that "
        "are stored differently are not supported"
    );
  }
  return &members->front().second;
}

// Weights [group_0.weights] of `bits`-bit integers.
void want_integers(ConfigReader& weights, std::int64_t bits) {
  want_integer(weights, "num_bits", bits);
  want_text(weights, "type", "int");
  want_flag(weights, "symmetric", true);
}

Result<QuantizationConfig> read_int4(const Json& group) {
  ConfigReader outer(group, "quantization_config.config_groups.*.");
  want_none(outer, "input_activations");
  want_none(outer, "output_activations");
  PLEIAD_TRY(outer.result());
  const Json* object = outer.object("weights");
  if (object == nullptr) return invalid_input("config.json: config_groups.*.weights is missing");
  ConfigReader weights(*object, "quantization_config.config_groups.*.weights.");
  want_integers(weights, 4);
  want_text(weights, "strategy", "group");
  want_integer(weights, "group_size", 32);
  want_none(weights, "actorder");
  PLEIAD_TRY(weights.result());
  return QuantizationConfig{.format = WeightFormat::Int4Group32};
}

Result<QuantizationConfig> read_int8(const Json& group) {
  ConfigReader outer(group, "quantization_config.config_groups.*.");
  want_none(outer, "output_activations");
  PLEIAD_TRY(outer.result());
  const Json* object = outer.object("weights");
  const Json* inputs = outer.object("input_activations");
  if (object == nullptr || inputs == nullptr) {
    return unsupported(
        "config.json: quantization_config.config_groups.* must hold weights and input_activations; "
        "supported: 8-bit weights by channel with dynamic 8-bit activations by token"
    );
  }
  ConfigReader weights(*object, "quantization_config.config_groups.*.weights.");
  want_integers(weights, 8);
  want_text(weights, "strategy", "channel");
  PLEIAD_TRY(weights.result());
  ConfigReader activations(*inputs, "quantization_config.config_groups.*.input_activations.");
  want_integers(activations, 8);
  want_text(activations, "strategy", "token");
  if (!activations.boolean_or("dynamic", false)) activations.refuse("dynamic", "false", "true");
  PLEIAD_TRY(activations.result());
  return QuantizationConfig{.format = WeightFormat::Int8Channel};
}

Result<QuantizationConfig> read_compressed(const Json& object) {
  ConfigReader reader(object, "quantization_config.");
  want_none(reader, "kv_cache_scheme");
  const std::string format = reader.text_or("format", "(missing)");
  if (format != "pack-quantized" && format != "int-quantized") {
    reader.refuse("format", format, "pack-quantized, int-quantized");
  }
  PLEIAD_TRY(reader.result());
  PLEIAD_TRY(group, only_group(object));
  return format == "pack-quantized" ? read_int4(*group) : read_int8(*group);
}

}  // namespace

Result<QuantizationConfig> parse_quantization_config(const Json& config) {
  ConfigReader reader(config);
  if (!reader.has("quantization_config")) return QuantizationConfig{};
  const Json* object = reader.object("quantization_config");
  if (object == nullptr) {
    return invalid_input("config.json: quantization_config must be an object");
  }
  ConfigReader inner(*object, "quantization_config.");
  const std::string method = inner.text_or("quant_method", "(missing)");
  if (method == "fp8") return read_fp8(*object);
  if (method == "compressed-tensors") return read_compressed(*object);
  if (method == "mxfp4") return QuantizationConfig{.format = WeightFormat::MxFp4};
  if (method == "ascend") {
    const Json* description = object->find("description");
    if (description == nullptr) {
      return not_found(
          "config.json: quant_method ascend needs a quant_model_description.json beside it"
      );
    }
    const std::int64_t layers = reader.integer("num_hidden_layers", 1);
    PLEIAD_TRY(reader.result());
    return parse_weight_description(*description, layers);
  }
  inner.refuse(
      "quant_method",
      method,
      "fp8 (e4m3 blocks), compressed-tensors (4-bit groups of 32, 8-bit channels), mxfp4, ascend "
      "(W8A8_DYNAMIC)"
  );
  PLEIAD_TRY(inner.result());
  return QuantizationConfig{};
}

}  // namespace pleiad::model
