#include "comm/ucx_group.h"
namespace pleiad::comm {
Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::open(const UcxGroupOptions&) { return unavailable("x"); }
Result<std::unique_ptr<Group>> UcxEndpoint::join(std::unique_ptr<UcxEndpoint>, Rank, std::span<const std::vector<std::byte>>, std::uint32_t) { return unavailable("x"); }
}
