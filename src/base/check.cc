#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace pleiad {

void check_failed(const char* file, int line, const char* condition, std::string_view what) {
  std::fprintf(
      stderr,
      "%s:%d: check failed: %s%s%.*s\n",
      file,
      line,
      condition,
      what.empty() ? "" : ": ",
      static_cast<int>(what.size()),
      what.data()
  );
  std::fflush(stderr);
  std::abort();
}

}  // namespace pleiad
