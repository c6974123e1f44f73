#pragma once

#include <cstdint>

#include "model/config_reader.h"
#include "model/decoder_config.h"

// The parts of a config.json that families share.
namespace pleiad::model {

// Sizes of the whole, and what no family computes differently.
void read_sizes(ConfigReader& reader, DecoderConfig& out);

// num_hidden_layers.
std::int64_t read_layer_count(ConfigReader& reader);

// `count` layers: dense up to `dense_layers`, then experts in every `frequency`-th one.
void set_layers(
    DecoderConfig& out,
    std::int64_t count,
    std::int64_t dense_layers,
    std::int64_t frequency
);

// Frequencies and YaRN, for heads of which `width` elements turn.
void read_rope(ConfigReader& reader, std::int64_t width, double theta, DecoderConfig& out);

// Heads of grouped-query attention, turning whole. The scale follows from the head's size.
GqaShape read_gqa(ConfigReader& reader, const DecoderConfig& sizes);

// The elements that turn of a head of `head`, by partial_rotary_factor, else `share` of them.
std::int64_t read_rotary_width(ConfigReader& reader, std::int64_t head, double share);

// Heads of multi-head latent attention; reads the rope too, whose pairs and scale belong to it.
void read_mla(ConfigReader& reader, DecoderConfig& out);

// n_routed_experts, groups and shared experts, as DeepSeek and its kin spell them.
void read_grouped_experts(ConfigReader& reader, DecoderConfig& out);

// Fails when the gate cannot choose as many experts as it should.
void check_gate(ConfigReader& reader, const kernels::GateOptions& gate);

}  // namespace pleiad::model
