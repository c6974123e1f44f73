#include "comm/detail/node_hello.h"

#include <algorithm>

#include "base/utf8.h"
#include "base/wire_bytes.h"

namespace pleiad::comm {
namespace {

void write_hello(ByteWriter& writer, const NodeHello& hello) {
  writer.number(hello.node);
  writer.number(hello.nodes);
  writer.text(hello.version);
  writer.text(hello.model);
  writer.text(hello.layout);
  writer.number(static_cast<std::uint32_t>(hello.addresses.size()));
  for (const auto& address : hello.addresses) {
    writer.bytes(address);
  }
}

// These texts are shown to people.
Result<std::string> read_text(ByteReader& reader) {
  PLEIAD_TRY(bytes, reader.bytes(kHelloTextMax));
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20U || c == 0x7F; };
  const bool plain = is_valid_utf8(text) && std::none_of(text.begin(), text.end(), control);
  if (!plain) return corrupt("a text that is not printable UTF-8");
  return text;
}

Result<NodeHello> read_hello(ByteReader& reader) {
  NodeHello hello;
  PLEIAD_TRY(node, reader.number<std::int32_t>());
  PLEIAD_TRY(nodes, reader.number<std::int32_t>());
  const auto nodes_max = static_cast<std::int32_t>(kRosterNodesMax);
  const bool sane = nodes > 0 && nodes <= nodes_max && node >= 0 && node < nodes;
  if (!sane) return corrupt("node {} of {} nodes", node, nodes);
  hello.node = node;
  hello.nodes = nodes;
  PLEIAD_TRY(version, read_text(reader));
  PLEIAD_TRY(model, read_text(reader));
  PLEIAD_TRY(layout, read_text(reader));
  hello.version = version;
  hello.model = model;
  hello.layout = layout;
  PLEIAD_TRY(addresses, reader.count(kHelloAddressesMax));
  for (std::size_t i = 0; i < addresses; ++i) {
    PLEIAD_TRY(address, reader.bytes(kHelloAddressBytesMax));
    hello.addresses.emplace_back(address.begin(), address.end());
  }
  return hello;
}

}  // namespace

std::vector<std::byte> encode_hello(const NodeHello& hello) {
  ByteWriter writer;
  write_hello(writer, hello);
  return writer.take();
}

Result<NodeHello> decode_hello(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  PLEIAD_TRY(hello, read_hello(reader));
  PLEIAD_TRY(reader.end());
  return hello;
}

std::vector<std::byte> encode_roster(const Roster& roster) {
  ByteWriter writer;
  writer.number(roster.epoch);
  writer.number(static_cast<std::uint32_t>(roster.nodes.size()));
  for (const NodeHello& hello : roster.nodes) {
    write_hello(writer, hello);
  }
  return writer.take();
}

Result<Roster> decode_roster(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  Roster roster;
  PLEIAD_TRY(epoch, reader.number<std::uint32_t>());
  PLEIAD_TRY(nodes, reader.count(kRosterNodesMax));
  roster.epoch = epoch;
  for (std::size_t i = 0; i < nodes; ++i) {
    PLEIAD_TRY(hello, read_hello(reader));
    const bool in_order = static_cast<std::size_t>(hello.node) == i;
    if (!in_order || static_cast<std::size_t>(hello.nodes) != nodes) {
      return corrupt("a roster whose entry {} is node {} of {}", i, hello.node, hello.nodes);
    }
    roster.nodes.push_back(std::move(hello));
  }
  PLEIAD_TRY(reader.end());
  return roster;
}

std::string refusal_of(const NodeHello& hello, const NodeHello& host) {
  const auto differ = [&](std::string_view what, const auto& theirs, const auto& ours) {
    return fmt::format("node {} has {} {}, node 0 has {}", hello.node, what, theirs, ours);
  };
  if (hello.version != host.version) return differ("version", hello.version, host.version);
  if (hello.nodes != host.nodes) return differ("--nnodes", hello.nodes, host.nodes);
  if (hello.model != host.model) return differ("model", hello.model, host.model);
  if (hello.layout != host.layout) return differ("layout", hello.layout, host.layout);
  if (hello.node == host.node) {
    return fmt::format("the place of node {} is taken by node 0 itself", hello.node);
  }
  return {};
}

}  // namespace pleiad::comm
