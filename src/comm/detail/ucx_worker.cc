#include "comm/detail/ucx_worker.h"

#include <array>
#include <csignal>
#include <string>

#include <ucs/config/global_opts.h>
#include <ucs/debug/debug.h>

#include "comm/detail/ucx_wire.h"

namespace pleiad::comm {
namespace {

// UCX is a guest here: it prints nothing unless the user asked for that, handles no signals, and
// hooks no memory calls.
void tame_ucx() {
  std::array<char, 64> level{};
  const bool known = ucs_global_opts_get_value("LOG_LEVEL", level.data(), level.size()) == UCS_OK;
  const std::string_view current(level.data());
  const bool untouched = current == "warn" || current == "WARN";
  if (known) ucs_global_opts_set_value("LOG_LEVEL", "fatal");
  ucs_global_opts_set_value("MEMTYPE_CACHE", "n");
  for (const int signal : {SIGILL, SIGSEGV, SIGBUS, SIGFPE}) {
    ucs_debug_disable_signal(signal);  // complains when it is not handled any more
  }
  if (known && !untouched) ucs_global_opts_set_value("LOG_LEVEL", level.data());
}

Result<void> modify(ucp_config_t* config, const char* key, const std::string& value) {
  if (value.empty()) return {};
  const ucs_status_t status = ucp_config_modify(config, key, value.c_str());
  if (status == UCS_OK) return {};
  return invalid_input("UCX refuses {}={}: {}", key, value, text_of(status));
}

Result<ucp_context_h> open_context(const UcxGroupOptions& options) {
  ucp_config_t* config = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return internal_error("UCX cannot read its configuration: {}", text_of(status));
  }
  const std::unique_ptr<ucp_config_t, void (*)(ucp_config_t*)> owned(config, ucp_config_release);
  PLEIAD_TRY(modify(config, "TLS", options.transports));
  PLEIAD_TRY(modify(config, "NET_DEVICES", options.interface));
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 0;
  ucp_context_h context = nullptr;
  if (const ucs_status_t status = ucp_init(&params, config, &context); status != UCS_OK) {
    return internal_error(
        "UCX finds no usable transport (UCX_TLS '{}', UCX_NET_DEVICES '{}'): {}",
        options.transports.empty() ? "all" : options.transports,
        options.interface.empty() ? "all" : options.interface,
        text_of(status)
    );
  }
  return context;
}

}  // namespace

std::string_view text_of(ucs_status_t status) {
  return ucs_status_string(status);
}

Result<std::unique_ptr<UcxWorker>> UcxWorker::open(const UcxGroupOptions& options) {
  tame_ucx();
  std::unique_ptr<UcxWorker> opened(new UcxWorker);
  PLEIAD_TRY(context, open_context(options));
  opened->context_ = context;
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  ucs_status_t status = ucp_worker_create(context, &params, &opened->worker_);
  if (status == UCS_OK) status = ucp_worker_get_efd(opened->worker_, &opened->event_fd_);
  ucp_address_t* address = nullptr;
  std::size_t bytes = 0;
  if (status == UCS_OK) status = ucp_worker_get_address(opened->worker_, &address, &bytes);
  if (status != UCS_OK) {
    return internal_error("UCX has no transport that can wait for events: {}", text_of(status));
  }
  const auto* begin = reinterpret_cast<const std::byte*>(address);
  const UcxHome home = find_home();
  const auto home_bytes = std::as_bytes(std::span(&home, 1));
  opened->address_.assign(home_bytes.begin(), home_bytes.end());
  opened->address_.insert(opened->address_.end(), begin, begin + bytes);
  ucp_worker_release_address(opened->worker_, address);
  return opened;
}

UcxWorker::~UcxWorker() {
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

bool UcxWorker::arm() {
  return ucp_worker_arm(worker_) == UCS_OK;
}

}  // namespace pleiad::comm
