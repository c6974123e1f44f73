#include "apps/policy_file_watch.h"

#include <utility>

#include <sys/stat.h>

#include "base/log.h"
#include "weights/read_file.h"

namespace pleiad::apps {

PolicyFileWatch::PolicyFileWatch(
    net::EventLoop& loop,
    MetricsRegistry& metrics,
    Options options,
    Apply apply
)
    : loop_(loop), metrics_(metrics), options_(std::move(options)), apply_(std::move(apply)) {}

Result<void> PolicyFileWatch::start() {
  seen_ = stamp();
  PLEIAD_TRY(read_and_apply());
  timer_ = loop_.after(options_.interval, [this] { look(); });
  return {};
}

PolicyFileWatch::Stamp PolicyFileWatch::stamp() const {
  struct stat is {};
  if (::stat(options_.path.c_str(), &is) != 0) return {};
  return {
      .device = is.st_dev,
      .inode = is.st_ino,
      .size = is.st_size,
      .changed_ns = is.st_mtim.tv_sec * 1'000'000'000 + is.st_mtim.tv_nsec,
  };
}

Result<void> PolicyFileWatch::read_and_apply() {
  PLEIAD_TRY(text, weights::read_text_file(options_.path, router::kPolicyFileBytesMax));
  auto policy = router::read_policy_file(text, options_.defaults);
  if (!policy.ok()) return with_context(std::move(policy).error(), options_.path);
  auto applied = apply_(*policy);
  if (!applied.ok()) return with_context(std::move(applied).error(), options_.path);
  return {};
}

void PolicyFileWatch::look() {
  timer_ = loop_.after(options_.interval, [this] { look(); });
  if (stamp() != seen_) reload();
}

void PolicyFileWatch::reload() {
  seen_ = stamp();
  const auto done = read_and_apply();
  metrics_
      .counter(
          "pleiad_router_policy_reloads_total",
          "Times that the policy file was read anew, by result: applied, or refused",
          {{"result", done.ok() ? "applied" : "refused"}}
      )
      .add();
  if (done.ok()) {
    PLEIAD_LOG(Info, "policy file {} is in force", options_.path);
  } else {
    PLEIAD_LOG(
        Error, "the policy file is refused, the rules before it stay: {}", done.error().message
    );
  }
}

}  // namespace pleiad::apps
