// Stands in for UCX in builds that cannot have it.
#include "comm/ucx_group.h"

namespace pleiad::comm {

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::open(const UcxGroupOptions& /*options*/) {
  return unsupported("this build has no UCX: ranks live in one process");
}

Result<std::unique_ptr<Group>> UcxEndpoint::join(
    std::unique_ptr<UcxEndpoint> /*self*/,
    Rank /*rank*/,
    std::span<const std::vector<std::byte>> /*addresses*/,
    std::uint32_t /*epoch*/,
    const std::function<bool()>& /*stopped*/
) {
  return unsupported("this build has no UCX: ranks live in one process");
}

}  // namespace pleiad::comm
