#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/result.h"
#include "net/url.h"

namespace pleiad::load_test {

// Resident memory of process `pid`, in KiB. Fails with NotFound when there is no such process.
Result<std::int64_t> resident_kib(std::int64_t pid);

// Asks `server` for its metrics until no request holds a KV page. Blocks; fails with Timeout after
// `patience`.
Result<void> wait_until_pages_are_free(const net::Url& server, Nanoseconds patience);

}  // namespace pleiad::load_test
