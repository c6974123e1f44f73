#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"
#include "model/model.h"
#include "sched/scheduler.h"

namespace pleiad::engine {

// Turns a scheduler's plan into the rows of a model step. All memory is taken at construction. One
// thread.
class StepBatch {
 public:
  StepBatch(std::int64_t rows_max, std::int64_t logit_rows_max, std::int64_t vocabulary);

  // Lays out `plan`'s chunks one after the other, one row a token, and asks for the logits each
  // chunk wants: all its rows, its last row, or none.
  void assemble(const sched::Scheduler& scheduler, std::span<const sched::PlannedChunk> plan);

  // Asks for a draw instead of the logits of a row. After assemble().
  void draw(std::size_t logit_row, const model::Draw& draw) { draws_[logit_row] = draw; }
  // What came of it, after the model ran.
  [[nodiscard]] const model::Drawn& drawn(std::size_t logit_row) const { return drawn_[logit_row]; }

  // The assembled rows; valid until the next assemble().
  [[nodiscard]] model::Batch batch();
  [[nodiscard]] std::int64_t rows() const { return static_cast<std::int64_t>(tokens_.size()); }
  // The first logit row of the plan's chunk `index`, and its logits after the model ran.
  [[nodiscard]] std::span<const float> logits(std::size_t logit_row) const;
  [[nodiscard]] std::size_t first_logit_row(std::size_t chunk) const {
    return first_logit_row_[chunk];
  }

 private:
  std::size_t vocabulary_;
  std::vector<TokenId> tokens_;               // [rows]
  std::vector<std::int64_t> positions_;       // [rows]
  std::vector<model::AttentionRow> rows_;     // [rows]
  std::vector<std::int32_t> logit_rows_;      // rows whose logits are wanted
  std::vector<std::size_t> first_logit_row_;  // [chunks]
  std::vector<float> logits_;                 // [logit_rows_max, vocabulary]
  std::vector<model::Draw> draws_;            // [logit_rows_max]
  std::vector<model::Drawn> drawn_;           // [logit_rows_max]
};

}  // namespace pleiad::engine
