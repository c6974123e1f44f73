#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/token.h"

// The hand-over of a prompt's keys between simulated workers. Keys are what they were made of: the
// tokens, so that a worker that goes on with wrong ones gives a wrong answer.
namespace pleiad::sim {

// What a decode worker asks a prefill worker for: keys of tokens [first, prompt).
struct KeyOrder {
  std::uint64_t transfer = 0;  // never used again
  std::string url;             // of the prefill worker
  std::optional<std::int32_t> dp_rank;
  std::vector<TokenId> prompt;
  std::int64_t first = 0;
  std::string cache_salt;
  std::int32_t priority = 0;
};

// What comes of it, in order.
struct KeyRecord {
  enum class Kind { Keys, Commit, Failed };

  std::uint64_t transfer = 0;
  Kind kind = Kind::Keys;
  std::int64_t first = 0;       // of Keys: of the tokens
  std::vector<TokenId> tokens;  // of Keys
  std::uint64_t records = 0;    // of Commit: that were sent before
};

// Takes records of one transfer, as kv::Assembly does, whose twin this is: those of others and
// those that are here are dropped, gaps are noticed, and nothing counts before the commit.
class KeyAssembly {
 public:
  enum class Taken { Nothing, Committed, Corrupt, Failed };

  // What this one leaves out, for tests that the checks can fail.
  enum class Defect { None, TakesAnyTransfer, BelievesCommits, ReadsEarly };

  // Tokens [first, end) are to come.
  KeyAssembly(std::uint64_t transfer, std::int64_t first, std::int64_t end, Defect defect);

  Taken take(const KeyRecord& record);
  // Of tokens from `first` on, whose keys are here.
  [[nodiscard]] const std::vector<TokenId>& tokens() const { return tokens_; }
  [[nodiscard]] std::int64_t first() const { return first_; }

 private:
  [[nodiscard]] std::int64_t next() const {
    return first_ + static_cast<std::int64_t>(tokens_.size());
  }

  const std::uint64_t transfer_;
  const std::int64_t first_;
  const std::int64_t end_;
  const Defect defect_;
  std::vector<TokenId> tokens_;
  std::uint64_t records_ = 0;
};

}  // namespace pleiad::sim
