#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "comm/rendezvous.h"

namespace pleiad::comm {

inline constexpr std::size_t kHelloTextMax = 4096;           // bytes of a text in a hello
inline constexpr std::size_t kHelloAddressesMax = 1024;      // local ranks of a node
inline constexpr std::size_t kHelloAddressBytesMax = 65536;  // of one address
inline constexpr std::size_t kRosterNodesMax = 4096;

// The wire form of a hello and of a roster. Decoding refuses (Corrupt) whatever encoding does not
// write: numbers out of range, texts that are no printable UTF-8, bytes left over.
std::vector<std::byte> encode_hello(const NodeHello& hello);
Result<NodeHello> decode_hello(std::span<const std::byte> bytes);
std::vector<std::byte> encode_roster(const Roster& roster);
Result<Roster> decode_roster(std::span<const std::byte> bytes);

// Why a node that says `hello` may not join `host`'s group; empty when it may.
std::string refusal_of(const NodeHello& hello, const NodeHello& host);

}  // namespace pleiad::comm
