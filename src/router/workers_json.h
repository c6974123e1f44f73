#pragma once

#include "base/json.h"
#include "router/worker_table.h"

namespace pleiad::router {

// Every worker with its state, why, and the load of its dp ranks, for operators.
Json workers_json(const WorkerTable& table);

}  // namespace pleiad::router
