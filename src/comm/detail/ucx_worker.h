#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <ucp/api/ucp.h>

#include "base/result.h"
#include "comm/ucx_group.h"

namespace pleiad::comm {

// What UCX makes of `status`, in words.
std::string_view text_of(ucs_status_t status);

// UCX's context and worker of one rank. One thread at a time. Progress happens only when asked for.
class UcxWorker {
 public:
  // Fails with Internal when UCX finds no usable transport.
  static Result<std::unique_ptr<UcxWorker>> open(const UcxGroupOptions& options);
  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  [[nodiscard]] ucp_worker_h get() const { return worker_; }
  // The rank's UcxHome, then UCX's address.
  [[nodiscard]] std::span<const std::byte> address() const { return address_; }
  // Readable when something may have happened since arm().
  [[nodiscard]] int event_fd() const { return event_fd_; }
  // Asks for the next event. False when there are some already: progress first.
  bool arm();
  // True when something moved.
  bool progress() { return ucp_worker_progress(worker_) != 0; }

 private:
  UcxWorker() = default;

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;
  std::vector<std::byte> address_;
};

}  // namespace pleiad::comm
