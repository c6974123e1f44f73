#include "bench/router/child_process.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

namespace pleiad::bench {

ChildProcess::ChildProcess(const std::vector<std::string>& words, const std::string& secret) {
  int ends[2] = {};
  PLEIAD_CHECK(pipe(ends) == 0);
  pid_ = fork();
  PLEIAD_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    setenv("PLEIAD_CLUSTER_SECRET", secret.c_str(), 1);
    std::vector<std::string> copies = words;
    std::vector<char*> arguments;
    for (std::string& word : copies) {
      arguments.push_back(word.data());
    }
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  output_ = ends[0];
  constexpr std::string_view kBefore = "listening on ";
  std::string said;
  char letter = 0;
  while (url_.empty() && read(output_, &letter, 1) == 1) {
    said += letter;
    const auto at = said.find(kBefore);
    if (letter == '\n' && at != std::string::npos) {
      url_ = said.substr(at + kBefore.size());
      url_.pop_back();
    }
  }
  PLEIAD_CHECK(!url_.empty(), "the program did not start");
}

ChildProcess::~ChildProcess() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(output_);
}

// Fields 14 and 15 of proc(5)'s stat, counted behind the name, which may hold blanks.
double ChildProcess::cpu_seconds() const {
  std::ifstream in("/proc/" + std::to_string(pid_) + "/stat");
  std::string line;
  std::getline(in, line);
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) {
    fields >> skipped;
  }
  double user = 0.0;
  double system = 0.0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double ChildProcess::resident_mib() const {
  std::ifstream in("/proc/" + std::to_string(pid_) + "/statm");
  double total = 0.0;
  double resident = 0.0;
  in >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

}  // namespace pleiad::bench
