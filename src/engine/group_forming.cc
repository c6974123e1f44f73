#include "engine/group_forming.h"

#include <optional>
#include <thread>
#include <utility>

namespace pleiad::engine {

comm::NodeHello make_hello(
    const GroupOptions& options,
    const LoadedModel& model,
    std::span<const std::unique_ptr<comm::UcxEndpoint>> endpoints
) {
  comm::NodeHello hello{
      .node = options.layout.node_rank,
      .nodes = options.layout.nnodes,
      .version = options.version,
      .model = model.digest,
      .layout = options.agreement,
      .addresses = {},
  };
  for (const auto& endpoint : endpoints) {
    const auto address = endpoint->address();
    hello.addresses.emplace_back(address.begin(), address.end());
  }
  return hello;
}

Result<std::vector<std::unique_ptr<comm::UcxEndpoint>>> open_endpoints(const GroupOptions& options
) {
  std::vector<std::unique_ptr<comm::UcxEndpoint>> endpoints;
  for (std::int32_t i = 0; i < options.layout.ranks_per_node(); ++i) {
    PLEIAD_TRY(endpoint, comm::UcxEndpoint::open(options.ucx));
    endpoints.push_back(std::move(endpoint));
  }
  return endpoints;
}

Result<std::vector<std::unique_ptr<comm::Group>>> join_groups(
    const GroupOptions& options,
    std::vector<std::unique_ptr<comm::UcxEndpoint>> endpoints,
    const comm::Roster& roster,
    const std::function<bool()>& stopped
) {
  std::vector<std::vector<std::byte>> addresses;
  for (const comm::NodeHello& node : roster.nodes) {
    addresses.insert(addresses.end(), node.addresses.begin(), node.addresses.end());
  }
  if (addresses.size() != static_cast<std::size_t>(options.layout.ranks())) {
    return corrupt(
        "the roster has {} ranks, the layout {}", addresses.size(), options.layout.ranks()
    );
  }
  const plan::RankRange here = options.layout.ranks_of_node(options.layout.node_rank);
  std::vector<std::optional<Result<std::unique_ptr<comm::Group>>>> joined(endpoints.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    threads.emplace_back([&, i] {
      const comm::Rank rank = here.first + static_cast<comm::Rank>(i);
      joined[i] =
          comm::UcxEndpoint::join(std::move(endpoints[i]), rank, addresses, roster.epoch, stopped);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::vector<std::unique_ptr<comm::Group>> groups;
  for (auto& result : joined) {
    if (!result->ok()) return std::move(*result).error();
    groups.push_back(std::move(**result));
  }
  return groups;
}

}  // namespace pleiad::engine
