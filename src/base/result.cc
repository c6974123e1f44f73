#include "base/result.h"

namespace pleiad {

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::InvalidInput:
      return "InvalidInput";
    case ErrorKind::NotFound:
      return "NotFound";
    case ErrorKind::Unsupported:
      return "Unsupported";
    case ErrorKind::Corrupt:
      return "Corrupt";
    case ErrorKind::Exhausted:
      return "Exhausted";
    case ErrorKind::Unavailable:
      return "Unavailable";
    case ErrorKind::Cancelled:
      return "Cancelled";
    case ErrorKind::Timeout:
      return "Timeout";
    case ErrorKind::Internal:
      return "Internal";
  }
  return "Unknown";
}

}  // namespace pleiad
