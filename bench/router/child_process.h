#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

namespace pleiad::bench {

// A program that runs beside the benchmark, with what it costs. Ends it when destroyed.
class ChildProcess {
 public:
  // Starts `words` with the cluster's secret in its environment, and blocks until it has told the
  // address it listens on.
  ChildProcess(const std::vector<std::string>& words, const std::string& secret);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  [[nodiscard]] const std::string& url() const { return url_; }
  // Of all its threads so far.
  [[nodiscard]] double cpu_seconds() const;
  [[nodiscard]] double resident_mib() const;

 private:
  pid_t pid_ = 0;
  int output_ = -1;
  std::string url_;
};

}  // namespace pleiad::bench
