#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "api/generation.h"
#include "base/result.h"

// The wire form of what crosses between the node that speaks HTTP and the ranks of others. Numbers
// are little-endian. Decoding believes nothing: lengths are bounded, and bytes left over are an
// error.
namespace pleiad::api {

// Tokens of one prompt at most, and of one list of stop tokens or biases.
inline constexpr std::size_t kWireTokensMax = std::size_t{1} << 22U;
inline constexpr std::size_t kWireTextMax = std::size_t{1} << 16U;

// A request on its way to a rank, with the id it has everywhere.
struct SubmitMessage {
  RequestId id;
  GenerationRequest request;
};

std::vector<std::byte> encode(const SubmitMessage& message);
Result<SubmitMessage> decode_submit(std::span<const std::byte> bytes);

// What a decode worker asks of a prefill worker.
std::vector<std::byte> encode(const PrefillOrder& order);
Result<PrefillOrder> decode_prefill_order(std::span<const std::byte> bytes);

// A token of the output, or the score of one of the prompt.
std::vector<std::byte> encode(const TokenEvent& event);
Result<TokenEvent> decode_token(std::span<const std::byte> bytes);

std::vector<std::byte> encode(const FinishEvent& event);
Result<FinishEvent> decode_finish(std::span<const std::byte> bytes);

std::vector<std::byte> encode(const GeneratorStatus& status);
Result<GeneratorStatus> decode_status(std::span<const std::byte> bytes);

}  // namespace pleiad::api
