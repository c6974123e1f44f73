#include "text/detail/tracked_text.h"

#include <algorithm>

#include "base/check.h"

namespace pleiad::text::detail {

void TrackedText::mark(TextRange range) {
  if (range.begin == range.end) return;
  if (!untrusted_.empty() && untrusted_.back().end == range.begin) {
    untrusted_.back().end = range.end;
  } else {
    untrusted_.push_back(range);
  }
}

void TrackedText::append(std::string_view bytes, bool untrusted) {
  const std::size_t begin = bytes_.size();
  bytes_.append(bytes);
  if (untrusted) mark({begin, bytes_.size()});
}

void TrackedText::append(const TrackedText& other, TextRange part) {
  PLEIAD_CHECK(part.begin <= part.end && part.end <= other.size());
  const std::size_t shift = bytes_.size();
  bytes_.append(other.bytes_, part.begin, part.end - part.begin);
  auto range = std::partition_point(
      other.untrusted_.begin(),
      other.untrusted_.end(),
      [&](const TextRange& r) { return r.end <= part.begin; }
  );
  for (; range != other.untrusted_.end() && range->begin < part.end; ++range) {
    const std::size_t begin = std::max(range->begin, part.begin) - part.begin;
    const std::size_t end = std::min(range->end, part.end) - part.begin;
    mark({shift + begin, shift + end});
  }
}

TrackedText TrackedText::slice(TextRange part) const {
  TrackedText out;
  out.append(*this, part);
  return out;
}

std::vector<TrackedText::Run> TrackedText::runs() const {
  std::vector<Run> runs;
  const std::string_view all = bytes_;
  std::size_t done = 0;
  for (const TextRange& range : untrusted_) {
    if (done < range.begin) runs.push_back({all.substr(done, range.begin - done), false});
    runs.push_back({all.substr(range.begin, range.end - range.begin), true});
    done = range.end;
  }
  if (done < all.size()) runs.push_back({all.substr(done), false});
  return runs;
}

void TrackedText::mark_all_untrusted() {
  untrusted_.clear();
  mark({0, bytes_.size()});
}

}  // namespace pleiad::text::detail
